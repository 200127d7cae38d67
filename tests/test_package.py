"""What importing the package sets up."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_slif
from recbole_slif import allocator


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((None, None), ("PASSIVE", "4000")),
        (("ACTIVE", None), ("ACTIVE", None)),
        ((None, "9"), ("PASSIVE", "9")),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(monkeypatch, before, after):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for name, value in zip(names, before, strict=True):
        monkeypatch.setenv(name, value or "")  # so that it is put back in the end
        if value is None:
            monkeypatch.delenv(name)
    importlib.reload(recbole_slif)
    assert tuple(map(os.environ.get, names)) == after


FAULTS = """
import mmap, resource, sys
if sys.argv[1] == "ours":
    from recbole_slif.allocator import keep_freed_memory
    print(keep_freed_memory())
def touch():
    return max(map(len, [b"x" * 40_000_000 for _ in range(3)]))
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE)
"""


def fresh(side: str) -> list[str]:
    own = allocator.USERS_OWN
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    command = [sys.executable, "-c", FAULTS, side]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(not allocator._is_glibc(), reason="glibc's allocator alone is set up")
def test_freed_tables_are_not_fetched_from_the_system_again():
    """Three tables of 40 MB, made five times over: bytes of pages that had to be made anew."""
    kept, anew = fresh("ours")
    assert kept == "True"
    assert int(anew) < 10_000_000
    assert int(fresh("theirs")[0]) > 300_000_000


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_an_allocator_set_up_by_the_user_is_left_alone(monkeypatch, name):
    for other in tuple(os.environ):
        if other.startswith(allocator.USERS_OWN):
            monkeypatch.delenv(other)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("set up all the same"))
    monkeypatch.setenv(name, "1")
    assert not allocator.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.os, "confstr", lambda _: None, raising=False)
    assert not allocator.keep_freed_memory()


LARGE = """
import torch
import recbole_slif
table = torch.randn(1_000_000, 64)
asked, size = 0, 0
for line in open("/proc/self/smaps", encoding="utf-8"):
    words = line.split()
    if words[0] == "Size:":
        size = int(words[1]) * 1024
    if words[0] == "VmFlags:" and "hg" in words:
        asked += size
print(asked)
"""
_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def asked_for_large_pages(**variables: str) -> int:
    """Bytes that a process with a table of 256 MB asks large pages for; torch is imported first."""
    environment = {**os.environ, **variables}
    if not variables:
        environment.pop("THP_MEM_ALLOC_ENABLE", None)
    command = [sys.executable, "-c", LARGE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not _PAGES.exists(), reason="this system has no large pages to ask for")
def test_tables_ask_for_large_pages_unless_the_user_says_no():
    assert asked_for_large_pages(THP_MEM_ALLOC_ENABLE="0") < 20_000_000
    assert asked_for_large_pages() > 200_000_000
