"""Explanations for a terminal: as wide as it is, coloured where it can be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from recbole_slif.errors import printable
from recbole_slif.explain.explanation import (
    Explanation,
    Fact,
    ItemExplanation,
    Named,
    Neighbour,
    UserExplanation,
)

LEGEND = (
    "facts: -> leads from the item to the entity, <- from the entity to the item, <-> both ways",
    "related items: the graph's edge weights as the model propagates on them, that is similarity "
    "over the square roots of both items' degrees",
)
_NAMED_HISTORY = 6
_NAMED_SHARING = 4
_BAR = 20
_BOLD, _DIM, _CYAN = "1", "2", "36"


def named(one: Named) -> str:
    """Return title and token, or the token alone."""
    return printable(f"{one.title} ({one.token})" if one.title else one.token)


def listed(ones: Sequence[Named], limit: int) -> str:
    """Return the first few and how many more there are."""
    shown = ", ".join(map(named, ones[:limit]))
    more = len(ones) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def standing(item: ItemExplanation) -> str:
    """Say where an item stands that is not recommended, or that the user met later."""
    if item.rank is None:
        return f"in the user's {item.met or 'excluded'} items, so not recommended"
    if item.met:
        return f"a {item.met} item of the user"
    return ""


def fact_line(fact: Fact) -> str:
    """Return a fact and how specific it is."""
    leads = {relation.from_item for relation in fact.relations}
    arrow = "<->" if len(leads) > 1 else "->" if True in leads else "<-"
    relations = " / ".join(relation.name for relation in fact.relations)
    what = "itself in the history" if fact.direct else f"joined to {fact.n_items} items"
    return f"{printable(relations)} {arrow} {named(fact.entity)}, {what}"


def facts_heading(item: ItemExplanation) -> str:
    """Say how many facts there are and how many are shown."""
    if not item.n_facts:
        why = "" if item.linked else "; the item is not linked to the knowledge graph"
        return f"shares no fact with the history{why}"
    noun = "fact" if item.n_facts == 1 else "facts"
    if len(item.facts) == item.n_facts:
        return f"{item.n_facts} {noun} shared with the history"
    if not item.facts:
        return f"{item.n_facts} {noun} shared with the history, not shown"
    return f"{item.n_facts} {noun} shared with the history, the {len(item.facts)} most specific"


def neighbours_text(found: Sequence[Neighbour]) -> str:
    """Return related items with the weights of their edges."""
    return ", ".join(f"{named(one.item)} {one.weight:.3f}" for one in found) or "none"


def legend(found: Explanation) -> list[str]:
    """Return how to read the signs that occur."""
    items = [item for user in found.users for item in user.items]
    present = (any(item.facts for item in items), any(item.graphs for item in items))
    return [line for line, shown in zip(LEGEND, present, strict=True) if shown]


class Writer:
    """Lays explanations out as text.

    Args:
        width: columns of a line.
        colour: use escape codes.
    """

    def __init__(self, width: int = 80, colour: bool = False) -> None:
        self.width, self.colour = width, colour

    def write(self, found: Explanation) -> str:
        """Return the text, one block a user."""
        lines = [f"{found.model} on {found.dataset}"]
        if found.modality_weights:
            shown = [f"{name} {weight:.3f}" for name, weight in found.modality_weights.items()]
            lines.append(f"modality weights of the feature graph: {', '.join(shown)}")
        for note in found.notes:
            lines += self._wrapped(f"({note})", 0)
        for line in legend(found):
            lines += self._wrapped(line, 0)
        for user in found.users:
            lines += ["", *self._user(user)]
        return "\n".join(lines) + "\n"

    def _user(self, user: UserExplanation) -> Iterable[str]:
        noun = "item" if len(user.history) == 1 else "items"
        title = f"user {printable(user.user)}, {len(user.history)} training {noun}"
        yield self._paint(title, _BOLD)
        yield from self._wrapped(listed(user.history, _NAMED_HISTORY), 2)
        for item in user.items:
            yield ""
            yield from self._item(item)

    def _item(self, item: ItemExplanation) -> Iterable[str]:
        rank = "  -" if item.rank is None else f"{item.rank:>3}"
        score = f"score {item.score:.4f}"
        room = self.width - len(rank) - len(score) - 3
        title = textwrap.shorten(named(item.item), room, placeholder="…")
        yield f"{rank} {self._paint(title, _BOLD)}{' ' * (room - len(title))}  {score}"
        if standing(item):
            yield from self._wrapped(standing(item), 4)
        yield from self._views(item)
        lacking = [name for name, has in item.modalities.items() if not has]
        if lacking:
            yield f"    the item has no {', '.join(lacking)} features"
        for name, found in item.graphs.items():
            yield from self._labelled(name, neighbours_text(found))
        yield f"    {self._paint(facts_heading(item), _CYAN)}"
        for fact in item.facts:
            yield from self._wrapped(fact_line(fact), 6, 8)
            if not fact.direct:
                yield from self._wrapped(f"with {listed(fact.history, _NAMED_SHARING)}", 8)

    def _views(self, item: ItemExplanation) -> Iterable[str]:
        if not item.views:
            return
        yield self._paint(f"    {'view':<13}{'weight':>8}  {'part of the score':>18}", _DIM)
        far = max(abs(view.part) for view in item.views) or 1.0
        for view in item.views:
            if not view.present:
                yield f"    {view.view:<13}{'missing':>8}"
                continue
            weight = "-" if view.weight is None else f"{view.weight:.3f}"
            bar = ("#" if view.part > 0 else "-") * round(_BAR * abs(view.part) / far)
            row = f"    {view.view:<13}{weight:>8}  {view.part:>+18.4f}  "
            yield row.rstrip() if not bar else row + self._paint(bar, _CYAN)
        if item.rest is not None:
            yield f"    {'bias':<13}{'-':>8}  {item.rest:>+18.4f}"

    def _labelled(self, label: str, text: str) -> Iterable[str]:
        yield f"    {self._paint(f'nearest in the {label}', _CYAN)}"
        yield from self._wrapped(text, 6)

    def _wrapped(self, text: str, indent: int, further: int | None = None) -> list[str]:
        first, rest = " " * indent, " " * (indent if further is None else further)
        return textwrap.wrap(
            text,
            self.width,
            initial_indent=first,
            subsequent_indent=rest,
            break_on_hyphens=False,
        )

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.colour else text
