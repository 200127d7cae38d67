"""A command in a process of its own, slowed so that a kill falls between two journal entries."""

from collections.abc import Mapping


def child(sizes: Mapping[str, Mapping[str, int]], pause: float) -> str:
    """Return code for `python -c CODE LOG COMMAND...`.

    It notes in LOG each file and the line behind which it is read, and makes LOG with the suffix
    `.ready` before the command begins.

    Args:
        sizes: Of each module of `dataset_tools`, constants and what they are to be.
        pause: Seconds before and after each journal entry.
    """
    return f"""\
import importlib, sys, time
from pathlib import Path
from dataset_tools import journal, resumed_reading
from dataset_tools.__main__ import main
for module, constants in {sizes!r}.items():
    for name, size in constants.items():
        setattr(importlib.import_module(f"dataset_tools.{{module}}"), name, size)
log, add = Path(sys.argv[1]), journal.Journal.add
files = resumed_reading.ResumedReading.files
def told(self):
    for path, after in files(self):
        with log.open("a") as file:
            file.write(f"{{path.name}} {{after}}\\n")
        yield path, after
def slow(self, *files, **entry):
    time.sleep({pause})
    add(self, *files, **entry)
    time.sleep({pause})
resumed_reading.ResumedReading.files, journal.Journal.add = told, slow
log.with_suffix(".ready").touch()
sys.exit(main(sys.argv[2:]))
"""
