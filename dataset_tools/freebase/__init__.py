"""`freebase`: streams a Freebase N-triples dump and writes the triples around linked items."""

from __future__ import annotations

import argparse
import fnmatch
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_slif.data.tables import read_table
from recbole_slif.errors import ConfigError, DataError

from .. import faults as shared
from . import ids
from .graph import Filter, Limits, sort_triples, write_graph
from .walk import Plan, Walk

DESCRIPTION = """\
Stream a Freebase dump (N-triples, gzip, zstd or plain) once per hop, keep the triples between
entities that touch the linked ones, drop rare entities and relations until none is left, and write
NAME.kg, sorted. Memory does not grow with the dump. A killed run goes on where it stopped and ends
with the same bytes."""
EXAMPLES = """\
  python -m dataset_tools freebase --dump freebase-rdf-latest.gz \\
      --link dataset/amazon-book/amazon-book.link --out dataset/amazon-book
  python -m dataset_tools freebase --dump dump.gz --link my.link --out dataset/my --hops 1 \\
      --roles head --drop-relations 'type.*' 'common.*' --min-entity 5 --min-relation 10"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `freebase`."""
    parser.add_argument(
        "--dump", type=Path, required=True, help="the dump, or a pipe that gives it"
    )
    parser.add_argument("--link", type=Path, required=True, help="a .link file of Freebase ids")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.kg")
    parser.add_argument("--name", help="data set name; default: the .link file's")
    parser.add_argument("--hops", type=int, default=2, help="passes; default: %(default)s")
    parser.add_argument(
        "--roles",
        choices=("both", "head"),
        default="both",
        help="triples an entity is head or tail of, or head alone; default: %(default)s",
    )
    parser.add_argument(
        "--min-entity", type=int, default=10, help=_help("an entity that is linked")
    )
    parser.add_argument("--min-relation", type=int, default=50, help=_help(""))
    parser.add_argument(
        "--relations",
        nargs="+",
        default=[],
        help="take these alone; names or patterns such as 'book.*'",
    )
    parser.add_argument(
        "--drop-relations", nargs="+", default=[], help="leave these out, such as 'type.*'"
    )
    parser.add_argument(
        "--language", default="en", help="other languages' literals are counted apart"
    )
    parser.add_argument(
        "--max-entities",
        type=int,
        default=40_000_000,
        help="stop beyond so many, about 24 bytes of memory each; default: %(default)s",
    )
    parser.add_argument(
        "--work", type=Path, help="folder for the state; default: OUT/.NAME.freebase"
    )
    parser.add_argument(
        "--save-every",
        type=float,
        default=20.0,
        help="seconds between states; default: %(default)s",
    )
    shared.add_options(parser)


def _help(spared: str) -> str:
    more = f"; {spared} stays anyway" if spared else ""
    return f"least number of triples it occurs in{more}; default: %(default)s"


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ConfigError: An option is out of range.
        DataError: Dump or links cannot be used.
    """
    for key in ("hops", "min_entity", "min_relation", "max_entities"):
        if getattr(options, key) < 1:
            raise ConfigError(f"--{key.replace('_', '-')}: must be at least 1")
    if not options.dump.exists():
        raise DataError(f"--dump: {options.dump} does not exist; docs/DATASETS.md says where it is")
    name = options.name or options.link.name.removesuffix(".link")
    linked, faults = linked_keys(options.link)
    folder = options.work or options.out / f".{name}.freebase"
    walk = Walk(options.dump, linked, _plan(options), folder, options.save_every)
    keys = walk.run()
    if not walk.spill.records:
        raise DataError(
            f"{options.dump}: no triple touches one of the {len(linked):,} linked entities; is it "
            "Freebase's dump, with cells parted by tabs?"
        )
    counts: dict[str, Any] = dict(sorted(walk.state.counts.items()))
    faults.take(walk.faults.report())
    shared.refuse(faults, options)
    graph = sort_triples(walk.spill, keys, walk.relations.names)
    counts["triples found"] = walk.spill.records
    counts["distinct triples, none from an entity to itself"] = graph.size
    stays = Filter(graph, linked, Limits(options.min_entity, options.min_relation))
    stays.settle()
    if not stays.relations.any():
        raise DataError("no triple is left; lower --min-entity or --min-relation")
    target = options.out / f"{name}.kg"
    counts["rounds of the frequency filter"] = stays.rounds
    counts |= write_graph(target, graph, stays)
    walk.spill.close()
    shutil.rmtree(folder)
    print(target)
    shared.conclude(counts, faults, options)


def _plan(options: argparse.Namespace) -> Plan:
    takes = relation_choice(options.relations, options.drop_relations)
    described = ["take", *sorted(options.relations), "drop", *sorted(options.drop_relations)]
    both = options.roles == "both"
    return Plan(options.hops, both, options.language, takes, described, options.max_entities)


def relation_choice(taken: Sequence[str], dropped: Sequence[str]) -> Callable[[str], bool]:
    """Return what says of a relation's name whether its triples are wanted."""

    def takes(name: str) -> bool:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in dropped):
            return False
        return not taken or any(fnmatch.fnmatchcase(name, pattern) for pattern in taken)

    return takes


def linked_keys(path: Path) -> tuple[np.ndarray, shared.Faults]:
    """Return the sorted keys of a .link file's entities, and what in it is no Freebase id.

    Raises:
        DataError: The file is malformed, holds no Freebase id, or one in another spelling than the
            dump's, under which training would not find its triples.
    """
    faults = shared.Faults()
    column = read_table(path, required=["entity_id"]).frame["entity_id"]
    keys, foreign = ids.keys_of(column.unique().tolist())
    strange, spelled = set(foreign), set(ids.tokens(keys))
    for line, word in enumerate(column, start=2):
        if word not in strange and word not in spelled:
            (own,) = ids.tokens(ids.keys_of([word])[0])
            raise DataError(
                f"{path}: line {line}: '{word}' is '{own}' in the .kg to come and would not be "
                "found there; write all entities so"
            )
        if word in strange:
            faults.add("links to what is no Freebase id", path, line)
    if not len(keys):
        raise DataError(f"{path}: no entity_id is a Freebase id such as m.0abc")
    return keys, faults
