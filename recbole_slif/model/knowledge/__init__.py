"""Models that use a knowledge graph of the items."""
