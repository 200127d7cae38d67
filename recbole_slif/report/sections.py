"""How the cells of an experiment stand together: one section for each table or curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_slif.errors import SlifError
from recbole_slif.report.entries import Cell, Experiment

OURS = "SLIFMR"
WANTED = ("recall", "ndcg", "precision")
_PREFERRED_K = 20
# The value of a key that makes the full model, for cells of one model alone.
_REFERENCE = {"ablation": "none", "fusion": "ailf", "sge_interval": 1}
_TITLES = {
    "inter": "Noise in interactions",
    "kg": "Noise in the knowledge graph",
    "modality": "Missing features",
    "layers": "Number of layers",
    "beta": "Weight of the loss between views (beta)",
    "gamma": "Weight of the loss within views (gamma)",
    "sge_n": "Neighbours in the correlation graph (N)",
    "interval": "Epochs between refreshes of the correlation graph",
}
_AXES = {
    "inter": "replaced interactions (%)",
    "kg": "replaced triples (%)",
    "modality": "items without features (%)",
    "layers": "layers",
    "sge_n": "neighbours N",
    "interval": "interval (epochs)",
}


@dataclass(frozen=True)
class Section:
    """Cells that are compared with one another.

    Attributes:
        name: for file names.
        title: heading, empty if the experiment's title says it all.
        cells: group by group.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]

    @property
    def levels(self) -> list[float]:
        """Positions on the x axis, ascending."""
        return sorted({cell.x for cell in self.cells if cell.x is not None})

    @property
    def curves(self) -> dict[str, list[Cell]]:
        """Series -> its cells along the x axis."""
        found: dict[str, list[Cell]] = {}
        for cell in sorted(self.cells, key=lambda cell: cell.x or 0.0):
            if cell.x is not None:
                found.setdefault(cell.series, []).append(cell)
        return found

    @property
    def flat(self) -> list[Cell]:
        """Cells without a place on the x axis; beside curves they are the same at every level."""
        return [cell for cell in self.cells if cell.x is None]

    @property
    def is_grid(self) -> bool:
        """Tell whether several curves share the x axis."""
        return len(self.curves) > 1

    @property
    def is_noise(self) -> bool:
        """Tell whether the x axis is a share of noise."""
        return any(cell.noise for cell in self.cells)

    @property
    def models(self) -> list[str]:
        """Names of the models, in order."""
        return list(dict.fromkeys(cell.model for cell in self.cells))

    @property
    def axis(self) -> str:
        """Label of the x axis."""
        keys = {key for cell in self.cells if cell.x is not None for key in cell.overrides}
        named = _AXES.get(self.name)
        return named or (next(iter(keys)) if len(keys) == 1 else self.name)


def sections(experiment: Experiment) -> list[Section]:
    """Part the cells: a section for each group with an x axis, one for all the others.

    Cells of a group stand together, otherwise the plan's order stays.
    """
    with_axis = list(dict.fromkeys(cell.group for cell in experiment.cells if cell.x is not None))
    found = []
    others = list(dict.fromkeys(cell.group for cell in experiment.cells))
    plain = tuple(
        sorted(
            (cell for cell in experiment.cells if cell.group not in with_axis),
            key=lambda cell: others.index(cell.group),
        )
    )
    if plain:
        found.append(Section("all" if with_axis else "", "", plain))
    for group in with_axis:
        cells = tuple(cell for cell in experiment.cells if cell.group == group)
        title = _TITLES.get(group, group) if len(with_axis) > 1 or plain else ""
        found.append(Section(group, title, cells))
    return found


def chosen_metrics(experiment: Experiment, asked: Sequence[str] = ()) -> list[str]:
    """Return the metrics of tables and figures.

    Args:
        experiment: what was run.
        asked: names such as `recall@10`; empty for Recall, NDCG and Precision at 20, or at the
            largest K there is.

    Raises:
        SlifError: no run has a metric that is asked for.
    """
    known = experiment.metrics()
    asked = list(dict.fromkeys(name.lower() for name in asked))
    absent = [name for name in asked if name not in known]
    if absent:
        raise SlifError(f"--metrics: no run has '{absent[0]}'; there are {', '.join(known)}")
    if asked:
        return asked
    sizes = {int(name.partition("@")[2]) for name in known if name.partition("@")[2].isdecimal()}
    if not sizes:
        return known
    k = _PREFERRED_K if _PREFERRED_K in sizes else max(sizes)
    return [f"{name}@{k}" for name in WANTED if f"{name}@{k}" in known] or [
        name for name in known if name.endswith(f"@{k}")
    ]


def subject(section: Section, asked: str | None = None) -> Cell | None:
    """Return the cell that the others are compared with; None if no one stands out.

    It never depends on results: the one asked for, the only cell of SLIF-MR among several models,
    or the cell whose settings make the full model. A cell that was not run has nothing to say.
    """
    if asked is not None:
        return next((cell for cell in section.cells if asked in (cell.key, cell.label)), None)
    own = [cell for cell in section.cells if cell.model == OURS]
    if len(section.models) > 1:
        return own[0] if len(own) == 1 else None
    full = [
        cell
        for cell in section.cells
        if any(cell.overrides.get(key) == value for key, value in _REFERENCE.items())
    ]
    return full[0] if len(full) == 1 else None


def pairs(section: Section, asked: str | None = None) -> list[tuple[Cell, Cell]]:
    """Return `(subject, other)` of each comparison; on a grid, at each level.

    There a cell without x is compared at every level, or with every cell where it is the subject.
    """
    one = subject(section, asked)
    if section.is_grid:
        mine = OURS if asked is None else asked
        ours = {cell.x: cell for cell in section.curves.get(mine, [])}
        others = [cell for cell in section.cells if cell.series != mine and cell.x in ours]
        found = [(ours[cell.x], cell) for cell in sorted(others, key=lambda cell: cell.x or 0.0)]
        found += [(cell, flat) for flat in section.flat for cell in ours.values()]
        if found or one is None or one.x is not None:
            return found
    return [] if one is None else [(one, cell) for cell in section.cells if cell is not one]


def check_subject(found: Sequence[Section], asked: str | None) -> None:
    """Refuse a `--subject` that no section has.

    Raises:
        SlifError: naming what there is.
    """
    if asked is None or any(pairs(section, asked) for section in found):
        return
    names: dict[str, None] = {}
    for section in found:
        names |= dict.fromkeys(section.curves if section.is_grid else ())
        cells = section.flat if section.is_grid else section.cells
        names |= dict.fromkeys(cell.label for cell in cells)
    raise SlifError(f"--subject: no cell is '{asked}'; there are {', '.join(names)}")


def metric_title(metric: str) -> str:
    """Return a metric as papers write it: `ndcg@20` as `NDCG@20`."""
    name, at, k = metric.partition("@")
    short = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP"}
    return short.get(name, name.capitalize()) + at + k
