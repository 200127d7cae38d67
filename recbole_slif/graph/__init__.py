"""Ids become fixed sparse operators here; nothing in this folder carries a gradient to its values."""
