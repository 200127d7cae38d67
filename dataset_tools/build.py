"""`build`: runs the steps of a recipe in order, leaving out what is finished."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import recbole_slif
from recbole_slif.errors import ConfigError, DataError

from . import recipes
from .download import Wanted, fetch
from .progress import bar
from .recipes import PLACES, Route, Source, Step
from .writing import write_json

DESCRIPTION = """\
Run a recipe: the commands that turn raw files into a data set, in their order. A step whose
command, inputs and outputs are what they were (by content) is not run again; after a kill the call
goes on. Nothing is downloaded without --download. Recipes: {names}; or the path of your own."""
EXAMPLES = """\
  python -m dataset_tools build amazon-book --raw raw/kgat --dry-run
  python -m dataset_tools build amazon-book --route raw --raw raw --set core=10 --set hops=2
  python -m dataset_tools build my-shop.yaml --raw exports"""
DESCRIPTION = DESCRIPTION.format(names=", ".join(recipes.shipped()))
_CHUNK = 1 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `build`."""
    parser.add_argument("recipe", help="name of a recipe, or a .yaml file")
    parser.add_argument("--route", help="which way; default: the recipe's first")
    parser.add_argument("--raw", type=Path, help="folder of the raw files; default: raw/NAME")
    parser.add_argument("--name", help="name of the data set; default: the recipe's")
    parser.add_argument(
        "--data-path", type=Path, default=Path("dataset"), help="folder above it: %(default)s"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and what is missing")
    parser.add_argument(
        "--download", action="store_true", help="fetch missing files that have an address"
    )
    parser.add_argument("--force", action="store_true", help="run finished steps again")


def run(options: argparse.Namespace) -> int:
    """Carry out the command.

    Raises:
        ConfigError: The recipe or an option is not usable.
        DataError: A raw file is missing or a step failed.
    """
    name, path = recipes.find_recipe(options.recipe)
    routes = recipes.load_routes(name, path)
    title, route = recipes.choose_route(routes, options.route, name)
    check_name(options.name or name)
    build = Build(options.name or name, route, options)
    print(f"{build.name}, route {title}: {route.about}")
    if options.download:
        build.fetch_missing()
    missing = build.missing()
    for step in route.steps:
        print(f"  {build.status(step, options.force):<10} {step.name}: {build.command(step)}")
    for source in missing:
        print(f"  missing    {build.raw / source.path}: from {source.origin or 'you'}")
    if options.dry_run:
        return 0
    needed = [source for source in missing if build.is_needed(source)]
    if needed:
        first = needed[0]
        raise DataError(
            f"{build.raw / first.path} is missing ({len(needed)} in all, listed above); get it "
            f"from {first.origin or 'its owner'}, or set --raw to the folder that holds it"
        )
    return build.run(options.force)


class Build:
    """One recipe's route with its places.

    Args:
        name: Of the data set.
        route: The steps.
        options: `raw`, `data_path` and `set`.

    Attributes:
        raw: Folder of the raw files.
        out: Folder of the data set.
    """

    def __init__(self, name: str, route: Route, options: argparse.Namespace) -> None:
        self.name, self.route = name, route
        self.raw = options.raw or Path("raw") / name
        self.out: Path = options.data_path / name
        own = {"name": name, "out": str(self.out), "data_path": str(options.data_path)}
        own |= {key: str(self.raw / source.path) for key, source in route.files.items()}
        self._values = own | recipes.change(route.settings, options.set)
        self._state_file = self.out / f".{name}.build.json"
        self._hashes: dict[Path, str] = {}

    def command(self, step: Step) -> str:
        """Return a step's command as one types it."""
        return " ".join(self._words(step))

    def _words(self, step: Step) -> list[str]:
        return recipes.fill(step.run, self._values)

    def _sources(self, step: Step) -> list[Source]:
        return [
            self.route.files[key]
            for key in sorted(recipes.holes(step) - {*PLACES})
            if key in self.route.files
        ]

    def _absent(self, step: Step) -> list[Source]:
        return [entry for entry in self._sources(step) if not (self.raw / entry.path).exists()]

    def left_out(self, step: Step) -> bool:
        """Return whether an optional step lacks a raw file."""
        return step.optional and bool(self._absent(step))

    def missing(self) -> list[Source]:
        """Return the raw files that are not there."""
        used = [source for step in self.route.steps for source in self._absent(step)]
        return list(dict.fromkeys(used))

    def is_needed(self, source: Source) -> bool:
        """Return whether a step that is not optional reads a raw file."""
        return any(source in self._sources(step) for step in self.route.steps if not step.optional)

    def fetch_missing(self) -> None:
        """Fetch the missing raw files that have an address.

        Raises:
            DataError: One cannot be fetched.
        """
        for source in self.missing():
            if source.url:
                fetch([source.url], self.raw / source.path, Wanted(source.size, source.sum))
            else:
                print(f"  {source.path} has no address to fetch: see {source.origin}")

    def status(self, step: Step, force: bool = False) -> str:
        """Return `finished`, `to do` or `left out`."""
        if self.left_out(step):
            return "left out"
        return "finished" if not force and self._finished(step) else "to do"

    def run(self, force: bool) -> int:
        """Run what is not finished.

        Returns:
            0, or 130 where the user stopped it.

        Raises:
            DataError: A step failed.
        """
        from .__main__ import main

        for number, step in enumerate(self.route.steps, start=1):
            title = f"[{number}/{len(self.route.steps)}] {step.name}"
            status = self.status(step, force)
            print(f"{title}: {status if status != 'to do' else self.command(step)}", flush=True)
            if status != "to do":
                continue
            code = main(self._words(step))
            if code == 130:
                return code
            absent = [path for path in self._writes(step) if not path.exists()]
            if code or absent:
                why = f"it did not write {absent[0]}" if not code else "see above"
                raise DataError(
                    f"step '{step.name}' failed ({why}); call build again when it is mended, "
                    "finished steps are kept"
                )
            self._note(step)
        print(f"{self.out} is built")
        return 0

    def _writes(self, step: Step) -> list[Path]:
        return [self.out / file for file in recipes.fill(step.writes, self._values)]

    def _reads(self, step: Step) -> list[Path]:
        """Return what a step reads: raw files, and files of the data set that it names."""
        below = f"{self.out}/"
        named = [Path(word) for word in self._words(step) if word.startswith(below)]
        named += [self.out / file for file in recipes.fill(step.reads, self._values)]
        return [self.raw / source.path for source in self._sources(step)] + named

    def _finished(self, step: Step) -> bool:
        noted = self._state().get(step.name)
        writes = self._writes(step)
        if not writes or not noted or not all(path.exists() for path in writes):
            return False
        return bool(noted == self._facts(step))

    def _facts(self, step: Step) -> dict[str, Any]:
        """Return all that decides whether a step must run again."""
        return {
            "version": recbole_slif.__version__,
            "command": self._words(step),
            "reads": {str(path): self._hash(path) for path in self._reads(step)},
            "writes": {str(path): self._hash(path) for path in self._writes(step)},
        }

    def _note(self, step: Step) -> None:
        self._hashes.clear()
        if step.writes:
            write_json(self._state_file, self._state() | {step.name: self._facts(step)})

    def _state(self) -> dict[str, Any]:
        try:
            found = json.loads(self._state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _hash(self, path: Path) -> str:
        """Return a hash of a file's content, or of all files in a folder; once in a step."""
        if path not in self._hashes:
            self._hashes[path] = _digest(path)
        return self._hashes[path]


def _digest(path: Path) -> str:
    files = list(_files(path))
    digest = hashlib.blake2b(digest_size=20)
    with bar(sum(file.stat().st_size for file in files), f"look at {path.name}") as shown:
        for file in files:
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while data := stream.read(_CHUNK):
                    digest.update(data)
                    shown.update(len(data))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.exists():
        yield path


def check_name(name: str) -> None:
    """Refuse a data set name that is no folder name.

    Raises:
        ConfigError: It is none.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise ConfigError(f"--name: '{name}' must be a plain folder name")
