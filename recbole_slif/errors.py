"""Errors a user can meet: each carries one line that names the file, line or key and the fix."""


class SlifError(Exception):
    """Base of every failure that is the input's fault; the command line prints its text alone."""


class DataError(SlifError):
    """A data or feature file is missing, malformed or does not fit the others."""


class ConfigError(SlifError):
    """A configuration key, value, model or data set name is not usable."""


class CheckpointError(SlifError):
    """A checkpoint cannot be read or belongs to other settings or data."""
