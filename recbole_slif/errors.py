"""Errors a user can meet: each carries one line that names the file, line or key and the fix."""

import re

_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://[^\s/:@]*):\S*@")
_JOINERS = "\u200c\u200d"  # letters and signs of several scripts are made with them
_SEPARATORS = "\x1c\x1d\x1e\x1f\x85"
_AS_WORD = re.compile(r"(?i)(pass(?:word|wd)=)[^&\s]+")


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: blanks for white space, escapes for controls.

    Tokens of a data file stand in messages, and an escape code in one could retitle a terminal,
    clear it, or hide what follows.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(sign: str) -> str:
    if sign.isprintable() or sign in _JOINERS:
        return sign
    blank = sign.isspace() and sign not in _SEPARATORS
    return " " if blank else sign.encode("unicode_escape").decode()


def without_passwords(text: str) -> str:
    """Return a text with `***` for the passwords of addresses such as `mysql://user:word@host`."""
    return _AS_WORD.sub(r"\1***", _IN_ADDRESS.sub(r"\1:***@", text))


class SlifError(Exception):
    """Base of every failure that is the input's fault; the command line prints its text alone."""

    def __str__(self) -> str:
        """Return the text on one line, without what a terminal would obey."""
        return printable(super().__str__())


class DataError(SlifError):
    """A data or feature file is missing, malformed or does not fit the others."""


class ConfigError(SlifError):
    """A configuration key, value, model or data set name is not usable."""


class CheckpointError(SlifError):
    """A checkpoint cannot be read or belongs to other settings or data."""
