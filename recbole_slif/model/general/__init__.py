"""Models that use the interactions alone."""
