"""Reads `manifest.yaml`: sources, licences and published counts of the public data sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def manifest() -> Mapping[str, Any]:
    """Return data set -> what is known of it."""
    text = (resources.files(__package__) / "manifest.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def release(name: str, kind: str) -> Mapping[str, Any] | None:
    """Return what is known of a data set's release (`kgat`, `kgin`, `kgcl`); None if nothing."""
    return manifest().get(name, {}).get("releases", {}).get(kind)


def papers(name: str) -> Mapping[str, Mapping[str, int]]:
    """Return paper -> counts that it prints for a data set."""
    return manifest().get(name, {}).get("papers", {})
