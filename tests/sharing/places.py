"""Storages that the tests of sharing run on."""

from __future__ import annotations

import os
import uuid

import pytest

from recbole_slif.sharing.address import Address, read_address

GIVEN = "RECBOLE_SLIF_TEST_STORAGE"
NEEDS_DATABASE = pytest.mark.skipif(
    GIVEN not in os.environ, reason=f"{GIVEN} names no database, such as postgresql://..."
)
KINDS = ["journal", "sqlite", pytest.param("given", marks=NEEDS_DATABASE)]


def place(kind: str, folder) -> str:
    """Return an address of a kind; the one given from outside is the same for all tests."""
    endings = {"journal": "shared.journal", "sqlite": "shared.db"}
    return os.environ[GIVEN] if kind == "given" else str(folder / endings[kind])


def address(kind: str, folder) -> Address:
    """Return an address of a kind, read."""
    return read_address(place(kind, folder))


def fresh_name() -> str:
    """Return a study's name that no other test has."""
    return f"test-{uuid.uuid4().hex}"
