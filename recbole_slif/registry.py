"""The one table of models: the README, the tests and the command line are driven by it."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass

from recbole_slif.errors import ConfigError


@dataclass(frozen=True)
class ModelEntry:
    """What the package knows of a model without importing it.

    Attributes:
        name: the name users type, equal to the class name.
        path: module that holds the class.
        kind: `general`, `knowledge`, `multimodal` or `both`.
        needs_knowledge: the model cannot run without a `.kg` and a `.link` file.
        needs_features: the model cannot run without at least one modality.
        paper: short citation.
        summary: one line for the model table.
        reconstructed: the paper's equations could not be had, so that they are ours.
    """

    name: str
    path: str
    kind: str
    needs_knowledge: bool
    needs_features: bool
    paper: str
    summary: str
    reconstructed: bool = False

    def load(self) -> type:
        """Import and return the model class."""
        return getattr(importlib.import_module(self.path), self.name)


_ENTRIES = (
    ModelEntry(
        "SLIFMR",
        "recbole_slif.model.slifmr",
        "both",
        False,
        False,
        "Guo et al., SLIF-MR, arXiv 2507.09998, 2025",
        "three graphs, a correlation graph fed back each epoch, two consistency losses",
    ),
    ModelEntry(
        "BPR",
        "recbole_slif.model.general.bpr",
        "general",
        False,
        False,
        "Rendle et al., BPR, UAI 2009",
        "matrix factorisation with the pairwise ranking loss",
    ),
    ModelEntry(
        "LightGCN",
        "recbole_slif.model.general.lightgcn",
        "general",
        False,
        False,
        "He et al., LightGCN, SIGIR 2020",
        "linear propagation on the user-item graph, mean over layers",
    ),
    ModelEntry(
        "NGCF",
        "recbole_slif.model.general.ngcf",
        "general",
        False,
        False,
        "Wang et al., NGCF, SIGIR 2019",
        "non-linear propagation with element-wise interaction terms",
    ),
    ModelEntry(
        "KGAT",
        "recbole_slif.model.knowledge.kgat",
        "knowledge",
        True,
        False,
        "Wang et al., KGAT, KDD 2019",
        "attention on the joint graph of users, items and entities, TransR loss beside BPR",
    ),
    ModelEntry(
        "KGIN",
        "recbole_slif.model.knowledge.kgin",
        "knowledge",
        True,
        False,
        "Wang et al., KGIN, WWW 2021",
        "user intents as mixtures of relations, relational path aggregation",
    ),
    ModelEntry(
        "KGCL",
        "recbole_slif.model.knowledge.kgcl",
        "knowledge",
        True,
        False,
        "Yang et al., KGCL, SIGIR 2022",
        "two views of the triples say which items' interactions two more views may lose",
    ),
    ModelEntry(
        "KACL",
        "recbole_slif.model.knowledge.kacl",
        "knowledge",
        True,
        False,
        "Wang et al., KACL, WSDM 2023",
        "attention on interactions and triples, contrasted on parts that learned gates thin out",
    ),
    ModelEntry(
        "KGRec",
        "recbole_slif.model.knowledge.kgrec",
        "knowledge",
        True,
        False,
        "Yang et al., KGRec, KDD 2023",
        "rationale attention; best triples hidden and reconstructed, worst dropped in a contrast",
    ),
    ModelEntry(
        "DiffMM",
        "recbole_slif.model.multimodal.diffmm",
        "multimodal",
        False,
        True,
        "Jiang et al., DiffMM, MM 2024",
        "a diffusion model per modality predicts the edges of that modality's graph",
    ),
    ModelEntry(
        "DiffKG",
        "recbole_slif.model.knowledge.diffkg",
        "knowledge",
        True,
        False,
        "Jiang et al., DiffKG, WSDM 2024",
        "a diffusion model over the graph's rows keeps the triples that it predicts",
    ),
    ModelEntry(
        "BM3",
        "recbole_slif.model.multimodal.bm3",
        "multimodal",
        False,
        True,
        "Zhou et al., BM3, WWW 2023",
        "bootstrapped alignment of users, items and features, no negatives",
    ),
    ModelEntry(
        "FREEDOM",
        "recbole_slif.model.multimodal.freedom",
        "multimodal",
        False,
        True,
        "Zhou and Shen, FREEDOM, MM 2023",
        "frozen item graph of features, user-item graph pruned in each epoch",
    ),
    ModelEntry(
        "TMFUN",
        "recbole_slif.model.multimodal.tmfun",
        "multimodal",
        False,
        True,
        "Zhou et al., TMFUN, SIGIR 2023",
        "RECONSTRUCTION, its equations are ours: attention-guided fusion of features in steps",
        reconstructed=True,
    ),
    ModelEntry(
        "KRDN",
        "recbole_slif.model.knowledge.krdn",
        "knowledge",
        True,
        False,
        "Zhu et al., KRDN, SIGIR 2023",
        "learned knowledge edges, interactions that two towers agree on, hundreds of negatives",
    ),
)

MODELS: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def find_model(name: str) -> ModelEntry | None:
    """Return the entry of one of our models, or None if the name is not ours."""
    return MODELS.get(name)


def shown_name(name: str) -> str:
    """Return a model's name for readers of results, who must see that one is a reconstruction."""
    entry = MODELS.get(name)
    return f"{name} (reconstruction)" if entry and entry.reconstructed else name


def unknown_model(name: str, others: tuple[str, ...] = ()) -> ConfigError:
    """Build the error for a model name that nobody knows.

    Args:
        name: what the user typed.
        others: further names that would have been accepted (RecBole's own).
    """
    file = name.partition(":")[0]
    if file.endswith(".py"):
        stem = file.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
        return ConfigError(
            f"model '{name}' names a file; name its class, from the folder of the file: "
            f"--model={stem}:CLASS"
        )
    known = [*MODELS, *others]
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.4)
    hint = f"; did you mean '{folded[near[0]]}'?" if near else "."
    return ConfigError(f"model '{name}' is not known{hint} Ours: {', '.join(MODELS)}.")
