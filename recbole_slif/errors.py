"""Errors a user can meet: each carries one line that names the file, line or key and the fix."""

import re

_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://[^\s/:@]*):\S*@")
_AS_WORD = re.compile(r"(?i)(pass(?:word|wd)=)[^&\s]+")


def without_passwords(text: str) -> str:
    """Return a text with `***` for the passwords of addresses such as `mysql://user:word@host`."""
    return _AS_WORD.sub(r"\1***", _IN_ADDRESS.sub(r"\1:***@", text))


class SlifError(Exception):
    """Base of every failure that is the input's fault; the command line prints its text alone."""


class DataError(SlifError):
    """A data or feature file is missing, malformed or does not fit the others."""


class ConfigError(SlifError):
    """A configuration key, value, model or data set name is not usable."""


class CheckpointError(SlifError):
    """A checkpoint cannot be read or belongs to other settings or data."""
