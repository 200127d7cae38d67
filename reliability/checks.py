"""The checks, in the order in which they are run; a new one is one entry here."""

from __future__ import annotations

from reliability.frame import Check

CHECKS: tuple[Check, ...] = ()
