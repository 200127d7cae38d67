"""Explanations of recommendations in the user's own tokens and titles, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_slif import factory
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.explain.facts import ItemFacts, SharedFact, readable
from recbole_slif.explain.views import Inside, Views, look_inside, nearest
from recbole_slif.ranking import exact_top_k
from recbole_slif.scoring import BlockScorer, leave_out
from recbole_slif.trained import (
    SPLITS,
    Trained,
    check_list_options,
    open_trained,
    top_lists,
)


@dataclass(frozen=True)
class Named:
    """An item or entity; `title` is empty if none is known."""

    token: str
    title: str = ""


@dataclass(frozen=True)
class Neighbour:
    """A related item and the weight of the edge to it."""

    item: Named
    weight: float


@dataclass(frozen=True)
class Relation:
    """A relation in words, and whether it leads from the item to the entity or back."""

    name: str
    from_item: bool


@dataclass(frozen=True)
class Fact:
    """What an item shares with the user's history.

    Attributes:
        relations: by which item and entity are joined; several where the graph states the same in
            both directions.
        entity: the entity; with a title where it is an item.
        n_items: how many items the graph joins to the entity.
        history: the history items that share it.
        direct: the entity is itself a history item.
    """

    relations: tuple[Relation, ...]
    entity: Named
    n_items: int
    history: tuple[Named, ...]
    direct: bool


@dataclass(frozen=True)
class ViewPart:
    """One view of an item: whether the item has it, its weight, what it adds to the score."""

    view: str
    present: bool
    weight: float | None
    part: float


@dataclass(frozen=True)
class ItemExplanation:
    """Why an item has its score for a user.

    Attributes:
        item: the item.
        rank: place among the items that may be recommended, from 1; None if it may not.
        met: the split in which the user met it, empty if in none.
        score: the model's score.
        views: parts of the score, empty for a model without views.
        rest: part of the score that belongs to no view, None for nothing.
        modalities: modality -> whether the item has it.
        graphs: graph -> the nearest items in it.
        linked: the item is linked to the knowledge graph.
        n_facts: number of shared facts.
        facts: the most specific of them.
    """

    item: Named
    rank: int | None
    met: str
    score: float
    views: tuple[ViewPart, ...] = ()
    rest: float | None = None
    modalities: Mapping[str, bool] = field(default_factory=dict)
    graphs: Mapping[str, tuple[Neighbour, ...]] = field(default_factory=dict)
    linked: bool = False
    n_facts: int = 0
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class UserExplanation:
    """A user's training items, and the explained ones."""

    user: str
    history: tuple[Named, ...]
    items: tuple[ItemExplanation, ...]


@dataclass(frozen=True)
class Explanation:
    """What `explain` returns.

    Attributes:
        model, dataset: names.
        modality_weights: modality -> weight in the feature graph.
        notes: one sentence for each thing that is left out, why.
        users: in the order asked.
    """

    model: str
    dataset: str
    modality_weights: Mapping[str, float]
    notes: tuple[str, ...]
    users: tuple[UserExplanation, ...]


@dataclass(frozen=True)
class Amounts:
    """How much is shown: items of a list, facts and related items of each."""

    topk: int = 10
    facts: int = 5
    neighbours: int = 5

    def check(self) -> None:
        """Refuse a negative number.

        Raises:
            ConfigError: naming the option.
        """
        for name in ("facts", "neighbours"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")


def explain(
    checkpoint: Path | str,
    users: Sequence[str] | None = None,
    items: Sequence[str] = (),
    amounts: Amounts | None = None,
    exclude: Sequence[str] = ("train", "valid"),
    overrides: Mapping[str, Any] | None = None,
    model: str | type | None = None,
    title_column: str | None = None,
) -> Explanation:
    """Explain the top items of users, or given items.

    Args:
        checkpoint: a checkpoint or run folder.
        users: user tokens, one named twice counts once; None takes all that have training items.
        items: item tokens to explain, in the list or not; empty explains the top of each list.
        amounts: how much is shown; `topk` also settles the ranks of equal scores.
        exclude: splits whose items are not recommended to their user.
        overrides: settings to change, such as `data_path`.
        model: class or `module:Class` of a model that is neither ours nor RecBole's.
        title_column: column of the `.item` file with titles; None guesses it.

    Raises:
        CheckpointError: the checkpoint is not usable, or the data is not what it was trained on.
        DataError: a token is unknown, or a named user has no training items.
        ConfigError: an amount or `exclude` is not usable.
    """
    amounts = amounts or Amounts()
    amounts.check()
    exclude = [exclude] if isinstance(exclude, str) else exclude
    check_list_options(amounts.topk, exclude)
    trained = open_trained(checkpoint, overrides, model, title_column)
    ids, wanted = trained.user_ids(users), trained.item_ids(items)
    explainer = Explainer(trained, amounts)
    ids, skipped = explainer.with_history(ids, named=users is not None)
    if len(wanted):
        lists: Iterable[Any] = given_items(trained, ids, wanted, amounts.topk, exclude)
    else:
        lists = _ranked(trained, ids, amounts.topk, exclude)
    bar = tqdm(lists, total=len(ids), desc="explain", disable=None if len(ids) > 20 else True)
    found = tuple(explainer.user(*entry) for entry in bar)
    notes = (*explainer.notes, *([f"{skipped} users without training items"] if skipped else []))
    return Explanation(
        str(trained.config["model"]),
        str(trained.config["dataset"]),
        explainer.inside.modality_weights,
        notes,
        found,
    )


def _ranked(
    trained: Trained, users: np.ndarray, k: int, exclude: Sequence[str]
) -> Iterable[tuple[int, list[tuple[int, float, int | None]]]]:
    for user, items, scores in top_lists(trained, users, k, exclude):
        pairs = zip(items, scores, strict=True)
        yield user, [(int(item), float(score), at) for at, (item, score) in enumerate(pairs, 1)]


@torch.no_grad()
def given_items(
    trained: Trained, users: np.ndarray, items: np.ndarray, k: int, exclude: Sequence[str]
) -> Iterable[tuple[int, list[tuple[int, float, int | None]]]]:
    """Yield for each user `(item, score, rank)` of the given items.

    The rank is the item's place in the user's list of `k` items, or the one it would have if that
    list went on to the last item; None if the list leaves the item out.
    """
    table = trained.bundle.pairs.table(*exclude)
    scorer = BlockScorer(trained.model, trained.dataset)
    for user, listed, _ in top_lists(trained, users, k, exclude):
        scores = scorer.scores(np.array([user]))
        raw = scores[0, torch.from_numpy(items)].tolist()
        leave_out(scores, *table.slice_rows(np.array([user])))
        ranks = [int(rank) or None for rank in _ranks(scores[0], listed)[items]]
        yield user, list(zip(map(int, items), raw, ranks, strict=True))


def _ranks(scores: Tensor, listed: np.ndarray) -> np.ndarray:
    """Return the place of each item from 1, 0 for one left out, `[n_items]`.

    How a list orders equal scores depends on its length, so the list's own order counts as far as
    it goes.

    Args:
        scores: `[n_items]`, minus infinity for what is left out.
        listed: items of the list, `[m]`, best first.
    """
    order = exact_top_k(scores.unsqueeze(0), len(scores))[0].cpu().numpy()
    order = np.concatenate((listed, order[~np.isin(order, listed)]))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    ranks[(scores == -torch.inf).cpu().numpy()] = 0
    return ranks


class Explainer:
    """Explains items for users of one trained model."""

    def __init__(self, trained: Trained, amounts: Amounts) -> None:
        self.trained, self.amounts = trained, amounts
        dataset = trained.dataset
        self.inside: Inside = look_inside(trained.model, dataset)
        self.graph = dataset.knowledge
        self.facts = ItemFacts(self.graph, dataset.item_num)
        self.tables = {split: trained.bundle.pairs.table(split) for split in SPLITS}
        self.relations = [readable(str(token)) for token in self.graph.relation_tokens]
        self.notes = (*self.inside.notes, *self._about_facts())

    def _about_facts(self) -> list[str]:
        if not self.graph.n_triples:
            return [f"shared facts: data set '{self.trained.dataset.dataset_name}' has no triples"]
        views = self.inside.views
        learns = factory.needs_knowledge(type(self.trained.model))
        if not learns and (views is None or "knowledge" not in views.names):
            name = type(self.trained.model).__name__
            return [
                f"shared facts: {name} as trained here does not read the knowledge graph; they "
                "describe the data, not the model"
            ]
        return []

    def history(self, user: int) -> np.ndarray:
        """Return a user's training items, ascending."""
        table = self.tables["train"]
        return table.values[table.indptr[user] : table.indptr[user + 1]]

    def with_history(self, users: np.ndarray, named: bool) -> tuple[np.ndarray, int]:
        """Return the users that have training items, and how many have none.

        Raises:
            DataError: such a user was asked for by name.
        """
        empty = self.tables["train"].counts[users] == 0
        if named and empty.any():
            token = self.trained.user_tokens[users[empty][0]]
            raise DataError(
                f"user '{token}' has no training items: the model learned nothing of it, so there "
                "is nothing to explain"
            )
        return users[~empty], int(empty.sum())

    def user(self, user: int, items: Sequence[tuple[int, float, int | None]]) -> UserExplanation:
        """Explain `(item, score, rank)` for a user."""
        history = self.history(user)
        return UserExplanation(
            str(self.trained.user_tokens[user]),
            tuple(map(self._item, history)),
            tuple(self._explain(user, history, *entry) for entry in items),
        )

    def _explain(
        self, user: int, history: np.ndarray, item: int, score: float, rank: int | None
    ) -> ItemExplanation:
        views, rest = self._parts(self.inside.views, user, item)
        shared = self.facts.shared(item, history)
        graphs = {
            name: tuple(
                Neighbour(self._item(other), weight)
                for other, weight in nearest(graph, item, self.amounts.neighbours)
            )
            for name, graph in self.inside.graphs.items()
        }
        return ItemExplanation(
            self._item(item),
            rank,
            self._met(user, item),
            score,
            views,
            rest,
            {name: bool(has[item]) for name, has in self.inside.presence.items()},
            graphs,
            bool(self.graph.linked[item]),
            len(shared),
            tuple(map(self._fact, shared[: self.amounts.facts])),
        )

    @staticmethod
    def _parts(
        views: Views | None, user: int, item: int
    ) -> tuple[tuple[ViewPart, ...], float | None]:
        if views is None:
            return (), None
        parts, rest = views.parts(user, item)
        found = []
        for at, (name, part) in enumerate(zip(views.names, parts, strict=True)):
            present = bool(views.mask[item, at])
            weighs = present and views.weights is not None
            weight = float(views.weights[item, at]) if weighs else None  # type: ignore[index]
            found.append(ViewPart(name, present, weight, part))
        return tuple(found), rest

    def _met(self, user: int, item: int) -> str:
        row, value = np.array([user]), np.array([item])
        return next((name for name in SPLITS if self.tables[name].has(row, value)[0]), "")

    def _item(self, item: int) -> Named:
        token = str(self.trained.item_tokens[item])
        return Named(token, self.trained.titles.get(token, ""))

    def _fact(self, fact: SharedFact) -> Fact:
        relations = [Relation(self.relations[name], leads) for name, leads in fact.relations]
        entity = Named(str(self.graph.entity_tokens[fact.entity]))
        if fact.entity < self.trained.dataset.item_num:
            entity = self._item(fact.entity)
        history = tuple(self._item(item) for item in fact.history)
        return Fact(tuple(relations), entity, fact.n_items, history, fact.direct)
