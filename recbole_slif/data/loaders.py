"""From a configuration to batches: `prepare_data` and the loaders it hands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import (
    FullSortEvalDataLoader,
    KGDataLoader,
    KnowledgeBasedDataLoader,
    TrainDataLoader,
)
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.utils import KGDataLoaderState, ModelType

from recbole_slif import process_group
from recbole_slif.data.cache import cached
from recbole_slif.data.columns import column_hashes
from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.pairs import SplitPairs
from recbole_slif.data.protocol import option
from recbole_slif.data.sampler import VectorisedKGSampler, VectorisedSampler
from recbole_slif.errors import ConfigError, DataError


def _rows(feat: Interaction, index: torch.Tensor) -> Interaction:
    return Interaction({name: feat[name][index] for name in feat})


class _OwnShuffle:
    """Iterates by one permutation of the loader's generator, without worker processes.

    The state of the generator before an epoch is then all it takes to repeat the epoch. Worker
    processes would each draw negatives from a copy of one generator, the same ones in every epoch.
    """

    generator: torch.Generator
    _sampler: Any

    def _init_batch_size_and_step(self) -> None:
        """Take the batch of all processes: each draws it whole and trains on its part."""
        size = process_group.world_size() * self.config["train_batch_size"]  # type: ignore[attr-defined]
        times = getattr(self, "times", 1)
        self.step = max(size // times, 1)
        self.set_batch_size(self.step * times)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Interaction]:
        if not self.config["single_spec"]:  # type: ignore[attr-defined]
            yield from super().__iter__()  # type: ignore[misc]
            return
        size, step = self.sample_size, self.step  # type: ignore[attr-defined]
        order = (
            torch.randperm(size, generator=self.generator)
            if self.shuffle  # type: ignore[attr-defined]
            else torch.arange(size)
        )
        for start in range(0, size, step):
            yield self.collate_fn(order[start : start + step])  # type: ignore[attr-defined]

    def get_state(self) -> dict[str, Any]:
        """Return the state of shuffling and of negative sampling, for a checkpoint."""
        return {
            "shuffle": self.generator.get_state(),
            "negatives": self._sampler.rng.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self.generator.set_state(torch.as_tensor(state["shuffle"], dtype=torch.uint8).cpu())
        self._sampler.rng.bit_generator.state = state["negatives"]


class TrainLoader(_OwnShuffle, TrainDataLoader):
    """Batches of interactions with drawn negatives; RecBole's, with columns indexed at once."""

    def collate_fn(self, index: Sequence[int] | torch.Tensor) -> Interaction:
        """Return the interactions at `index` `[n]`, joined with negatives."""
        data = _rows(self._dataset.inter_feat, torch.as_tensor(index))
        data = self.transform(self._dataset, self._dataset.join(data))
        return self._neg_sampling(data)


class TripleLoader(_OwnShuffle, KGDataLoader):
    """Batches of triples with a drawn negative tail each."""

    def collate_fn(self, index: Sequence[int] | torch.Tensor) -> Interaction:
        """Return the triples at `index` `[n]` with their negative tails."""
        data = _rows(self._dataset.kg_feat, torch.as_tensor(index))
        heads = data[self.hid_field].numpy()
        data[self.neg_tid_field] = self._sampler.sample_by_entity_ids(heads, self.neg_sample_num)
        return data


class KnowledgeLoader(KnowledgeBasedDataLoader):
    """RecBole's loader of three modes; it starts in the mode of interactions alone."""

    def __init__(
        self,
        config: Any,
        dataset: MultimodalKGDataset,
        sampler: VectorisedSampler,
        kg_sampler: VectorisedKGSampler | None,
        shuffle: bool = True,
    ) -> None:
        self.logger = getLogger()
        self.general_dataloader = TrainLoader(config, dataset, sampler, shuffle=shuffle)
        self.kg_dataloader = (
            TripleLoader(config, dataset, kg_sampler, shuffle=True) if kg_sampler else None
        )
        self.shuffle = False
        self.state = KGDataLoaderState.RS
        self._dataset = self.dataset = dataset
        self.kg_iter, self.gen_iter = None, None

    def set_mode(self, state: KGDataLoaderState) -> None:
        """Choose interactions (RS), triples (KG) or both (RSKG).

        Raises:
            DataError: Triples are asked for and the data set has none.
        """
        if state != KGDataLoaderState.RS and self.kg_dataloader is None:
            name = self._dataset.dataset_name
            raise DataError(
                f"this model learns from triples, but data set '{name}' has none; add {name}.kg "
                f"and {name}.link (docs/DATASETS.md)"
            )
        super().set_mode(state)

    def _parts(self) -> dict[str, Any]:
        parts = {"interactions": self.general_dataloader, "triples": self.kg_dataloader}
        return {name: part for name, part in parts.items() if part is not None}

    def update_config(self, config: Any) -> None:
        """Take over batch sizes of another configuration."""
        for part in self._parts().values():
            part.update_config(config)

    def get_state(self) -> dict[str, Any]:
        """Return the states of both loaders, for a checkpoint."""
        return {name: part.get_state() for name, part in self._parts().items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        for name, part in self._parts().items():
            part.set_state(state[name])


class EvalLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking loader on sorted arrays.

    Attributes:
        phase: `valid` or `test`.
        pairs: The split, with `history(phase)` and `positives(phase)` for blocked evaluation.
    """

    def __init__(
        self,
        config: Any,
        dataset: MultimodalKGDataset,
        sampler: VectorisedSampler,
        shuffle: bool = False,
    ) -> None:
        self.logger = getLogger()
        self.phase, self.pairs = sampler.phase, sampler.pairs
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = False
        users, _, _ = self.pairs.positives(self.phase)
        self.uid_list = torch.from_numpy(users)
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))
        self.sample_size = len(users)
        # FullSortEvalDataLoader's own constructor loops over all pairs in Python.
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def collate_fn(
        self, index: Sequence[int]
    ) -> tuple[Interaction, tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return users `[n]`, their masked pairs, and rows and items of their positives."""
        where = torch.as_tensor(index)
        users = self.uid_list[where].numpy()
        masked = self.pairs.before(self.phase).slice_rows(users)
        rows, items = self.pairs.table(self.phase).slice_rows(users)
        history = (torch.from_numpy(masked[0]), torch.from_numpy(masked[1]))
        return _rows(self.user_df, where), history, torch.from_numpy(rows), torch.from_numpy(items)

    @cached_property
    def uid2history_item(self) -> np.ndarray:
        """`[n_users]` tensors of masked items, as RecBole's case study reads them."""
        return _as_tensors(*self.pairs.history(self.phase))

    @cached_property
    def uid2positive_item(self) -> np.ndarray:
        """`[n_users]` tensors of positive items."""
        table = self.pairs.table(self.phase)
        return _as_tensors(table.indptr, table.values)


def _as_tensors(indptr: np.ndarray, items: np.ndarray) -> np.ndarray:
    out = np.empty(len(indptr) - 1, dtype=object)
    for row in range(len(out)):
        out[row] = torch.from_numpy(items[indptr[row] : indptr[row + 1]])
    return out


@dataclass
class DataBundle:
    """All that training and evaluation read.

    Attributes:
        dataset: The whole data set; `train_data.dataset` is its train part.
        train_data: Batches of interactions with negatives.
        valid_data: Users to rank for validation.
        test_data: Users to rank for the final test; nothing here iterates it.
        fingerprint: Hash of the split.
        statistics: Numbers for the log and the record.
        pairs: The split as sorted arrays.
        columns: Hashes of what was read beside, see `column_hashes`.
    """

    dataset: MultimodalKGDataset
    train_data: Any
    valid_data: Any
    test_data: Any
    fingerprint: str
    statistics: dict[str, Any]
    pairs: SplitPairs
    columns: dict[str, str]

    def history(self, phase: str) -> tuple[np.ndarray, np.ndarray]:
        """Return `indptr [n_users + 1]` and items to mask when `phase` is evaluated."""
        return self.pairs.history(phase)

    def positives(self, phase: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `users [n]`, `indptr [n + 1]` and items that count as hits in `phase`."""
        return self.pairs.positives(phase)


@dataclass(frozen=True)
class SplitData:
    """A data set that was read and split, before any loader.

    Attributes:
        dataset: The whole data set.
        parts: Its train, valid and test part.
        pairs: The split as sorted arrays.
        statistics: Numbers for the log and the record.
        columns: Hashes of what was read beside, see `column_hashes`.
    """

    dataset: MultimodalKGDataset
    parts: tuple[MultimodalKGDataset, ...]
    pairs: SplitPairs
    statistics: dict[str, Any]
    columns: dict[str, str]


def read_data(config: Any) -> SplitData:
    """Read, check and split the data set of a configuration.

    Raises:
        DataError: A file is missing or malformed, or a user has met every item.
        ConfigError: A data key has a value that cannot be used.
    """
    if config["MODEL_TYPE"] in (ModelType.SEQUENTIAL, ModelType.DECISIONTREE):
        raise ConfigError(
            f"model '{config['model']}' is of type {config['MODEL_TYPE'].name}, which needs "
            "RecBole's own data sets; run it with RecBole"
        )

    def read() -> tuple[MultimodalKGDataset, tuple[MultimodalKGDataset, ...]]:
        fresh = MultimodalKGDataset(config)
        return fresh, tuple(fresh.build())

    dataset, parts = cached(config, read)
    pairs = split_pairs(dataset, [part.inter_feat for part in parts])
    _refuse_sated_users(dataset, pairs)
    statistics = dataset.statistics()
    log_statistics(statistics)
    return SplitData(dataset, parts, pairs, statistics, column_hashes(dataset))


def split_pairs(dataset: MultimodalKGDataset, feats: Sequence[Interaction]) -> SplitPairs:
    """Return the interactions of train, valid and test as sorted arrays."""
    parts = [(feat[dataset.uid_field].numpy(), feat[dataset.iid_field].numpy()) for feat in feats]
    return SplitPairs(parts, dataset.user_num, dataset.item_num)


def make_loaders(config: Any, data: SplitData) -> DataBundle:
    """Build the loaders of one run, with generators at their beginning.

    RecBole's loaders note fields on the data set, so each run gets objects of its own; the arrays
    are shared and nobody writes to them.
    """
    dataset, train, valid, test = (part.fresh() for part in (data.dataset, *data.parts))
    sampler = _make_sampler(config, data.pairs)
    return DataBundle(
        dataset,
        _train_loader(config, train, sampler),
        _eval_loader(config, valid, sampler, "valid"),
        _eval_loader(config, test, sampler, "test"),
        dataset.fingerprint(),
        dict(data.statistics),
        data.pairs,
        data.columns,
    )


def prepare_data(config: Any) -> DataBundle:
    """Read, check and split the data set of a configuration and build its loaders.

    Raises:
        DataError: A file is missing or malformed, or a user has met every item.
        ConfigError: A data key has a value that cannot be used.
    """
    return make_loaders(config, read_data(config))


def _refuse_sated_users(dataset: MultimodalKGDataset, pairs: SplitPairs) -> None:
    if (pairs.n_lines() < dataset.item_num - 1).all():
        return
    sated = np.flatnonzero(pairs.used("test").counts >= dataset.item_num - 1)
    if len(sated):
        token = dataset.field2id_token[dataset.uid_field][sated[0]]
        raise sated_user(dataset.dataset_name, token, dataset.item_num - 1)


def sated_user(name: str, token: str, n_items: int) -> DataError:
    """Return the error for a user who has met every item."""
    return DataError(
        f"data set '{name}': user '{token}' has interacted with all {n_items} items, so there are "
        "no negatives to draw; remove the user or set user_inter_num_interval"
    )


def _make_sampler(config: Any, pairs: SplitPairs) -> VectorisedSampler:
    wanted = option(config, "train_neg_sample_args", {})
    distribution, alpha = wanted.get("distribution", "uniform"), wanted.get("alpha", 1.0)
    if distribution == "none":
        distribution, alpha = "uniform", 1.0
    return VectorisedSampler(pairs, distribution, float(alpha), int(option(config, "seed", 0)))


def _train_loader(config: Any, dataset: MultimodalKGDataset, sampler: VectorisedSampler) -> Any:
    phase = sampler.set_phase("train")
    shuffle = bool(option(config, "shuffle", True))
    wanted = get_dataloader(config, "train")
    learns_triples = hasattr(getattr(config, "model_class", None), "calculate_kg_loss")
    if learns_triples or wanted is KnowledgeBasedDataLoader:
        kg_sampler = None
        if len(dataset.kg_feat):
            kg_sampler = VectorisedKGSampler(
                dataset, sampler.distribution, sampler.alpha, sampler.seed
            )
        return KnowledgeLoader(config, dataset, phase, kg_sampler, shuffle)
    loader = TrainLoader if wanted is TrainDataLoader else wanted
    return loader(config, dataset, phase, shuffle=shuffle)


def _eval_loader(
    config: Any, dataset: MultimodalKGDataset, sampler: VectorisedSampler, phase: str
) -> Any:
    own = sampler.set_phase(phase)
    wanted = option(config, f"{phase}_neg_sample_args", {}).get("distribution", "uniform")
    if wanted != "none":
        own.set_distribution(wanted)
    loader = get_dataloader(config, phase)
    loader = EvalLoader if loader is FullSortEvalDataLoader else loader
    return loader(config, dataset, own, shuffle=False)


def log_statistics(statistics: Mapping[str, Any]) -> None:
    """Say in the log what a data set holds and what was put right."""
    logger = getLogger()
    train, valid, test = statistics["split"]
    logger.info(
        f"data: {statistics['dataset']}, protocol {statistics['protocol']}, "
        f"{statistics['users']} users, {statistics['items']} items, "
        f"{train} + {valid} + {test} interactions, {statistics['triples']} triples, "
        f"{statistics['linked_items']} linked items, features {statistics['features'] or 'none'}, "
        f"split {statistics['fingerprint']}"
    )
    for note, count in statistics["notes"].items():
        logger.warning(f"data: {note}: {count}")
