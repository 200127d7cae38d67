# ruff: noqa: S311 - random rows, no secrets
"""A made-up Freebase dump, the command on it, and what plain loops find in it."""

import random
from collections import Counter

from dataset_tools.__main__ import main

NS = "http://rdf.freebase.com/ns/"


def line(head, relation, tail):
    return f"<{NS}{head}>\t<{NS}{relation}>\t<{NS}{tail}>\t.\n"


def toy_dump(seed=0, size=4000, entities=150):
    """Lines of a dump: triples between entities, literals, types, twins, loops."""
    rng = random.Random(seed)
    names = [f"m.0{number:x}" for number in range(entities)] + [f"g.1{n}_z" for n in range(9)]
    rows = []
    for _ in range(size):
        head, kind = rng.choice(names), rng.random()
        if kind < 0.5:
            rows.append(line(head, f"a.b.r{rng.randrange(12)}", rng.choice(names)))
        elif kind < 0.6:
            rows.append(
                f"<{NS}{head}>\t<http://www.w3.org/ns#type>\t<{NS}{rng.choice(names)}>\t.\n"
            )
        elif kind < 0.8:
            text = rng.choice(['"a"@en', '"b \\t c"@fr', '"1"^^<x>', '"@en"@zh-Hant', '"q"@en-GB'])
            rows.append(f"<{NS}{head}>\t<{NS}type.object.name>\t{text}\t.\n")
        else:
            rows.append(f"<{NS}{head}>\t<{NS}type.object.type>\t<{NS}book.book>\t.\n")
    return rows + rows[:50]


def oracle(rows, linked, hops, both, least_entity, least_relation, drop=""):
    """What the command should write, by loops over lines."""
    triples = set()
    for row in rows:
        cells = row.rstrip("\n").split("\t")
        ends = [cell[len(NS) + 1 : -1] for cell in (cells[0], cells[2])]
        if all(end[:2] in ("m.", "g.") for end in ends) and '"' not in cells[2]:
            relation = cells[1].strip("<>").removeprefix(NS)
            if ends[0] != ends[1] and relation != drop:
                triples.add((ends[0], relation, ends[1]))
    reached, kept = set(linked), set()
    for _ in range(hops):
        kept |= {t for t in triples if t[0] in reached or (both and t[2] in reached)}
        reached |= {end for t in kept for end in (t[0], t[2])}
    while True:
        entities = Counter(end for t in kept for end in (t[0], t[2]))
        relations = Counter(t[1] for t in kept)
        left = {
            t
            for t in kept
            if relations[t[1]] >= least_relation
            and all(end in linked or entities[end] >= least_entity for end in (t[0], t[2]))
        }
        if left == kept:
            break
        kept = left
    head = "head_id:token\trelation_id:token\ttail_id:token\n"
    return head + "".join("\t".join(triple) + "\n" for triple in sorted(kept))


LINKED = {"m.00", "m.05", "m.0a", "g.13_z"}


def freebase(dump, link, out, *more):
    words = ["--dump", str(dump), "--link", str(link), "--out", str(out), *more]
    assert main(["freebase", *words]) == 0
    return (out / "toy.kg").read_text()
