"""The long checks: what must never go wrong, tried many times under a fixed time budget."""
