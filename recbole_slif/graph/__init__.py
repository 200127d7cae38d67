"""Ids become fixed sparse operators; nothing here carries a gradient to an operator's values."""
