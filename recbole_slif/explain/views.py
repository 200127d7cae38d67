"""What a trained model holds of its items: views, their fusion, graphs of related items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_slif.graph.sparse import SparseOperator
from recbole_slif.layers.fusion import AttentionFusion, ConcatFusion, ItemLevelFusion, SumFusion
from recbole_slif.model.slifmr import SLIFMR

CORRELATION = "correlation graph"


@dataclass(frozen=True)
class Views:
    """The item views of a model that fuses several into one.

    Attributes:
        names: of the views, in the model's order.
        users: `[n_users, d]`.
        tables: the views as the branches give them, `[n_items, d]` each.
        mask: bool `[n_items, n_views]`, whether the item has the view.
        weights: `[n_items, n_views]`, absent views 0; None where the fusion has none.
        shares: `[n_items, n_views, d]` float64, what each view adds to the fused row.
        rest: `[d]` float64, what the fused rows hold beside the views, None for nothing.
    """

    names: tuple[str, ...]
    users: Tensor
    tables: tuple[Tensor, ...]
    mask: np.ndarray
    weights: np.ndarray | None
    shares: Tensor
    rest: Tensor | None

    def parts(self, user: int, item: int) -> tuple[list[float], float | None]:
        """Return what each view, and the rest, adds to the user's score of an item.

        All of them together are the score, up to the rounding of float32.
        """
        row = self.users[user].double()
        views = (self.shares[item] @ row).tolist()
        return views, None if self.rest is None else float(self.rest @ row)


@dataclass(frozen=True)
class Inside:
    """All that can be shown of a model beside its scores.

    Attributes:
        views: None for a model without.
        graphs: name -> `[n_items, n_items]`, row i the items that item i takes from.
        modality_weights: modality -> weight in the feature graph.
        presence: modality -> bool `[n_items]`, whether the item has it.
        notes: one sentence for each thing that is left out, why.
    """

    views: Views | None = None
    graphs: Mapping[str, sp.csr_array] = field(default_factory=dict)
    modality_weights: Mapping[str, float] = field(default_factory=dict)
    presence: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@torch.no_grad()
def look_inside(model: Any, dataset: Any) -> Inside:
    """Read views, weights and graphs of a model in evaluation mode.

    Args:
        model: the model of a checkpoint.
        dataset: the data set that it was built on.
    """
    if isinstance(model, SLIFMR):
        return _inside_slifmr(model, dataset)
    name = type(model).__name__
    graphs = _item_graphs(model, dataset)
    notes = [
        f"fusion weights: {name} scores by one table of items, so there are no views to weigh",
        f"{CORRELATION}: SLIF-MR alone feeds one back, {name} has none",
    ]
    return Inside(graphs=graphs, notes=tuple(notes))


def _inside_slifmr(model: SLIFMR, dataset: Any) -> Inside:
    notes: list[str] = []
    graphs: dict[str, sp.csr_array] = {}
    correlation = model.self_loop.merged
    if correlation is not None:
        graphs[CORRELATION] = correlation
    elif not model.with_loop:
        notes.append(f"{CORRELATION}: none, the model was trained with ablation=sge")
    else:
        start = model.settings["sge_start"]
        notes.append(f"{CORRELATION}: none, the checkpoint is of an epoch before sge_start={start}")
    weights: dict[str, float] = {}
    presence: dict[str, np.ndarray] = {}
    branch = model.feature_branch
    if branch is not None:
        names = list(dataset.features)
        weights = dict(zip(names, branch.modality_weights.tolist(), strict=True))
        presence = dict(zip(names, branch.presence.cpu().numpy().T, strict=True))
        graphs |= {
            f"feature graph, {name}": graph.to_scipy()
            for name, graph in zip(names, branch.graphs, strict=True)
        }
    views = fused_views(model)
    if views.weights is None:
        kind = model.settings["fusion"]
        notes.append(f"fusion weights: none, fusion={kind} learns no weights for its views")
    return Inside(views, graphs, weights, presence, tuple(notes))


@torch.no_grad()
def fused_views(model: SLIFMR) -> Views:
    """Return SLIF-MR's views and what each adds to the unified items; evaluation mode."""
    users, tables = model.extract()
    mask = model.view_mask
    names = ["interaction"]
    names += ["feature"] * (model.feature_branch is not None)
    names += ["knowledge"] * (model.knowledge_branch is not None)
    weights: Tensor | None = None
    stacked = torch.stack(tables, dim=1).masked_fill(~mask.unsqueeze(2), 0.0)
    shares, rest = stacked.double(), None
    fusion = model.fusion
    if fusion is None:
        weights = mask.float()
    elif isinstance(fusion, ItemLevelFusion | AttentionFusion):
        weights = fusion(tables, mask)[1]
        shares = shares * weights.double().unsqueeze(2)
    elif isinstance(fusion, ConcatFusion):
        linear = fusion.project
        blocks = linear.weight.double().view(fusion.dim, fusion.n_views, fusion.dim)
        shares = torch.einsum("nvd,ovd->nvo", shares, blocks)
        rest = linear.bias.double()
    elif not isinstance(fusion, SumFusion):
        raise TypeError(f"fusion {type(fusion).__name__} cannot be taken apart")
    numbers = None if weights is None else weights.cpu().numpy()
    return Views(tuple(names), users, tuple(tables), mask.cpu().numpy(), numbers, shares, rest)


def _item_graphs(model: Any, dataset: Any) -> dict[str, sp.csr_array]:
    """Return the item graphs that a model of another kind has built of features."""
    one = getattr(model, "item_graph", None)
    several = getattr(model, "item_graphs", ())
    found = {"item graph": one} if isinstance(one, SparseOperator) else {}
    if len(several) == len(dataset.features):
        named = zip(dataset.features, several, strict=True)
        found |= {f"item graph, {name}": graph for name, graph in named}
    shape = (dataset.item_num, dataset.item_num)
    return {name: graph.to_scipy() for name, graph in found.items() if graph.shape == shape}


def nearest(graph: sp.csr_array, item: int, count: int) -> list[tuple[int, float]]:
    """Return the `count` items of the largest weights in an item's row, and the weights."""
    start, stop = graph.indptr[item], graph.indptr[item + 1]
    columns, values = graph.indices[start:stop], graph.data[start:stop]
    order = np.lexsort((columns, -values))[:count]
    return [(int(columns[at]), float(values[at])) for at in order]
