"""Why an item stands where it does: views and their weights, related items, shared facts."""
