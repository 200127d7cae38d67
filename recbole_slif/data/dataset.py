"""The one data set class: every model sees the same ids, the same items and the same split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType

from recbole_slif.data.columns import check_columns, check_times
from recbole_slif.data.features import ModalityFeatures, choose_modalities, load_features
from recbole_slif.data.linking import clean_links, join_items_and_entities
from recbole_slif.data.locate import feature_files, feature_folders, resolve_folder
from recbole_slif.data.protocol import (
    RATIOS,
    benchmark_split,
    choose_protocol,
    fingerprint,
    option,
    ratio_split,
)
from recbole_slif.data.reading import CheckedReading
from recbole_slif.data.tokens import any_repeated, canonical_order
from recbole_slif.errors import ConfigError, DataError
from recbole_slif.graph.knowledge import KnowledgeGraph

OPEN_INTERVALS = (None, "[0,inf)", "[0, inf)")


def nothing_to_train_on(name: str) -> DataError:
    """Return the error for a data set that has no training interactions."""
    return DataError(
        f"data set '{name}': no training interactions are left after filtering; check "
        "val_interval, user_inter_num_interval, item_inter_num_interval, unlinked_items, and the "
        "tokens of .user and .item (filter_inter_by_user_or_item)"
    )


class MultimodalKGDataset(CheckedReading):
    """Interactions, knowledge graph and item features of one data set.

    Differs from RecBole's `KnowledgeBasedDataset`, whose interface it keeps, in this:

    - Items without link stay, as isolated entities (`unlinked_items: keep`), so that knowledge
      models and others train on the same interactions. An item's entity id is its item id.
    - Ids follow the sorted tokens, and the split follows ids and `split_seed` alone, so the order
      of lines in the files changes nothing.
    - Files are checked before they are read; what was put right is counted in `notes`.
    - `.kg` and `.link` may both be missing: the graph is then empty.

    Attributes:
        notes: What was dropped or repaired on loading, with counts.
        notes_of_tables: Those of `notes` that are not about features.
        protocol: `ratio_811`, `benchmark` or `eval_args`, see `data/protocol.py`.
        features: Modality to `ModalityFeatures`, rows in item id order.
    """

    features: dict[str, ModalityFeatures]
    notes_of_tables: Counter[str]

    def _get_preset(self) -> None:
        super()._get_preset()
        self.notes = Counter()
        folder = resolve_folder(self.config["data_path"], self.dataset_name)
        self.dataset_path = str(folder)
        self.protocol, self._files = choose_protocol(self.config, folder, self.dataset_name)
        # Public splits are kept track of below, so that filters work on them as well.
        self.benchmark_filename_list = None
        self._split_hash: str | None = None
        self._split_sizes: tuple[int, ...] = ()

    def _init_alias(self) -> None:
        names = self._build_feat_name_list()
        files = {name.removesuffix("_feat"): list(getattr(self, name)) for name in names}
        check_columns(self.config, self.field2type, files)
        super()._init_alias()

    # ---- filtering -----------------------------------------------------------------------------

    def _data_filtering(self) -> None:
        self._remove_duplication()
        self._filter_by_field_value()
        before = len(self.inter_feat)
        self._filter_inter_by_user_or_item()
        self.notes["interactions of users or items that .user or .item leaves out, dropped"] += (
            before - len(self.inter_feat)
        )
        limits = ("user_inter_num_interval", "item_inter_num_interval")
        if any(option(self.config, key, None) not in OPEN_INTERVALS for key in limits):
            self._filter_by_inter_num()
        limits = ("entity_kg_num_interval", "relation_kg_num_interval")
        if any(option(self.config, key, None) not in OPEN_INTERVALS for key in limits):
            self._filter_kg_by_triple_num()
        self._filter_link()
        self._drop_unused_rows()
        self._reset_index()

    def _remove_duplication(self) -> None:
        """Keep one of the interactions of a user with an item; train wins over valid and test."""
        pair = [self.uid_field, self.iid_field]
        frame = self.inter_feat
        if not any_repeated(frame, pair):
            return
        phase = pd.Series(self._phase, index=frame.index)
        within = frame.assign(_phase=phase).duplicated([*pair, "_phase"])
        # Ties are settled by all other columns, never by the order of lines.
        rest = [name for name in frame if name not in pair and name != self.time_field]
        by = ([self.time_field] if self.time_field in frame else []) + rest
        if by:
            newest = option(self.config, "rm_dup_inter", "first") == "last"
            sortable = frame[by].map(lambda cell: tuple(cell) if np.ndim(cell) else cell)
            frame = frame.loc[sortable.sort_values(by, ascending=not newest, kind="stable").index]
        frame = frame.loc[phase[frame.index].sort_values(kind="stable").index]
        kept = frame[~frame.duplicated(pair)]
        self.notes["repeated interactions dropped"] += int(within.sum())
        self.notes["valid or test interactions already in an earlier part, dropped"] += (
            len(frame) - len(kept) - int(within.sum())
        )
        self.inter_feat = kept.sort_index()

    def _filter_link(self) -> None:
        items = pd.unique(self.inter_feat[self.iid_field].to_numpy(dtype=object))
        ends = [self.kg_feat[self.head_entity_field], self.kg_feat[self.tail_entity_field]]
        entities = pd.unique(np.concatenate([end.to_numpy(dtype=object) for end in ends]))
        self._links = clean_links(self._links, items, entities, self.notes)
        rule = option(self.config, "unlinked_items", "keep")
        if rule not in ("keep", "drop"):
            raise ConfigError(f"unlinked_items: '{rule}' is neither keep nor drop")
        if rule == "drop":
            kept = self.inter_feat[self.iid_field].isin(self._links[self.iid_field])
            self.notes["interactions of unlinked items dropped"] += int((~kept).sum())
            self.inter_feat = self.inter_feat[kept]

    def _drop_unused_rows(self) -> None:
        """Forget users and items of `.user` and `.item` that never interact: they are none."""
        for name, field in (("user_feat", self.uid_field), ("item_feat", self.iid_field)):
            feat = getattr(self, name)
            if feat is not None:
                setattr(self, name, feat[feat[field].isin(self.inter_feat[field])])

    def _reset_index(self) -> None:
        self._phase = self._phase[self.inter_feat.index]
        if not len(self.inter_feat) or not (self._phase == 0).any():
            raise nothing_to_train_on(self.dataset_name)
        for name in self.feat_name_list:
            setattr(self, name, getattr(self, name).reset_index(drop=True))

    # ---- ids -----------------------------------------------------------------------------------

    def _concat_remaped_tokens(self, remap_list: list) -> tuple[np.ndarray, np.ndarray]:
        tokens = [
            feat[field].to_numpy(dtype=object)
            if kind == FeatureType.TOKEN
            else np.concatenate([*feat[field], np.empty(0, dtype=object)])
            for feat, field, kind in remap_list
        ]
        return np.concatenate(tokens), np.cumsum([len(part) for part in tokens])[:-1]

    def _remap(self, remap_list: list) -> None:
        """Number tokens in canonical order, from 1; an empty cell becomes 0, [PAD]."""
        if not remap_list:
            return
        tokens, split_point = self._concat_remaped_tokens(remap_list)
        codes, names = pd.factorize(tokens)
        order = canonical_order(names)
        order = order[names[order] != ""] if len(names) else order
        rank = np.zeros(len(names), dtype=np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        id_token = np.array(["[PAD]", *names[order]])
        token_id = {token: index for index, token in enumerate(id_token.tolist())}
        for (feat, field, kind), ids in zip(
            remap_list, np.split(rank[codes], split_point), strict=True
        ):
            self.field2id_token.setdefault(field, id_token)
            self.field2token_id.setdefault(field, token_id)
            if kind == FeatureType.TOKEN:
                feat[field] = ids
            else:
                cuts = np.cumsum([len(cell) for cell in feat[field]])[:-1]
                feat[field] = np.split(ids, cuts)

    def _remap_ID_all(self) -> None:  # noqa: N802 - RecBole's name
        super()._remap_ID_all()
        users, items = (
            self.inter_feat[name].to_numpy(dtype=np.int64)
            for name in (self.uid_field, self.iid_field)
        )
        # Pairs occur once each, so any sort by one joint key gives the canonical order.
        order = np.argsort(users * len(self.field2id_token[self.iid_field]) + items)
        self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        self._phase = self._phase[order]
        self._load_features()

    def _merge_item_and_entity(self) -> None:
        items, entities = (
            self.field2token_id[self.iid_field],
            self.field2token_id[self.head_entity_field],
        )
        names = [self.head_entity_field, self.relation_field, self.tail_entity_field]
        link_items = np.array([items[t] for t in self._links[self.iid_field]], dtype=np.int64)
        link_entities = np.array(
            [entities[t] for t in self._links[self.entity_field]], dtype=np.int64
        )
        triples = [self.kg_feat[name].to_numpy(dtype=np.int64) for name in names]
        joined = join_items_and_entities(
            self.field2id_token[self.iid_field],
            self.field2id_token[self.head_entity_field],
            (triples[0], triples[1], triples[2]),
            (link_items, link_entities),
            self.notes,
        )
        self.kg_feat = pd.DataFrame(dict(zip(names, joined.triples, strict=True)))
        for field in self.alias["entity_id"]:
            if field not in names:
                for feat in self.field2feats(field):
                    feat[field] = [joined.new_id[cell] for cell in feat[field]]
        # A real entity's token wins over an unlinked item's that happens to read the same.
        tokens = joined.entity_tokens
        linked = np.flatnonzero(joined.linked)
        token_id = {token: index for index, token in enumerate(tokens.tolist())}
        others = range(len(joined.linked), len(tokens))
        token_id |= {str(tokens[index]): index for index in [*others, *linked[::-1].tolist()]}
        for field in {*self.alias["entity_id"], self.entity_field}:
            self.field2id_token[field] = tokens
            self.field2token_id[field] = token_id
        item_tokens = self.field2id_token[self.iid_field]
        self.item2entity = {str(item_tokens[i]): str(tokens[i]) for i in linked}
        self.entity2item = {str(tokens[i]): str(item_tokens[i]) for i in linked[::-1]}
        self._knowledge = KnowledgeGraph(
            *joined.triples,
            n_entities=len(tokens),
            n_relations=len(self.field2id_token[self.relation_field]),
            relation_tokens=self.field2id_token[self.relation_field],
            entity_tokens=tokens,
            linked=joined.linked,
        )

    def _fill_nan(self) -> None:
        """Fill empty cells: [PAD] for tokens, the mean for numbers, nothing for sequences."""
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0).astype(np.int64)
                elif kind == FeatureType.FLOAT:
                    mean = feat[field].mean()
                    feat[field] = feat[field].fillna(0.0 if np.isnan(mean) else mean)
                else:
                    empty = np.empty(0, np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    feat[field] = [empty if np.ndim(cell) == 0 else cell for cell in feat[field]]

    # ---- features ------------------------------------------------------------------------------

    def _load_features(self) -> None:
        name, folder = self.dataset_name, self.config["data_path"]
        extra = option(self.config, "feature_path", None)
        found = feature_files(feature_folders(folder, name), name, extra)
        wanted = option(self.config, "modalities", None)
        chosen = choose_modalities(found, wanted, name, Path(folder))
        missing = option(self.config, "missing", "mask")
        tokens = self.field2id_token[self.iid_field].astype(object)
        self.notes_of_tables = Counter(self.notes)
        self.features = {}
        for modality, path in chosen.items():
            notes: Counter[str] = Counter()
            self.features[modality] = load_features(path, tokens, missing, notes)
            self.notes.update({f"{path.name}: {note}": count for note, count in notes.items()})

    @property
    def knowledge(self) -> KnowledgeGraph:
        """The base triples without inverses, item ids first among the entities."""
        return self._knowledge

    # ---- splitting -----------------------------------------------------------------------------

    def build(self) -> list[MultimodalKGDataset]:
        """Split into train, valid and test by the protocol.

        Returns:
            Three data sets that share everything but `inter_feat`.
        """
        seed = int(option(self.config, "split_seed", option(self.config, "seed", 0)))
        if self.protocol == "eval_args":
            self._order_by_time()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                parts = super().build()
            self._note_split([part.inter_feat for part in parts])
            return [self.copy(part.inter_feat) for part in parts]
        self._change_feat_format()
        self._drop_unused_col()
        users = self.inter_feat[self.uid_field].numpy()
        if self.protocol == "ratio_811":
            index = ratio_split(users, seed, self._cut)
        else:
            ratio = float(option(self.config, "valid_ratio", 0.1))
            minimum = int(option(self.config, "valid_min_interactions", 5))
            index = benchmark_split(users, self._phase, seed, ratio, minimum)
        feats = [self._take(part) for part in index]
        self._note_split(feats)
        return [self.copy(feat) for feat in feats]

    def fresh(self) -> MultimodalKGDataset:
        """Return a twin whose tables of fields and columns are its own, on the same arrays."""
        twin = self.copy(self.inter_feat)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(twin, name, dict(value))
            elif isinstance(value, Interaction):
                setattr(twin, name, Interaction(dict(value.interaction)))
        return twin

    def _order_by_time(self) -> None:
        """Sort for order TO by the times as they were read.

        RecBole sorts again, stably, by times it has cut to float32, whose steps are minutes wide.
        """
        if option(self.config, "eval_args", {}).get("order") != "TO":
            return
        check_times(self.config, self.inter_feat)
        self.inter_feat = self.inter_feat.sort_values(
            self.time_field, kind="stable", ignore_index=True
        )

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction:
        # pandas hands out read-only arrays, which torch cannot wrap: copy them once.
        types = {FeatureType.TOKEN: np.int64, FeatureType.FLOAT: np.float32}
        kinds = {name: types.get(self.field2type[name]) for name in data}
        kinds |= dict.fromkeys(option(self.config, "numerical_features", ()))
        plain = {
            name: torch.from_numpy(np.array(data[name], dtype=kinds[name]))
            for name in data
            if kinds[name] is not None
        }
        rest = {name: data[name] for name in data if name not in plain}
        others = super()._dataframe_to_interaction(rest)
        return Interaction({name: plain[name] if name in plain else others[name] for name in data})

    def _cut(self, count: int) -> Sequence[int]:
        return self._calcu_split_ids(count, RATIOS)

    def _take(self, index: np.ndarray) -> Interaction:
        where = torch.from_numpy(index)
        return Interaction({name: self.inter_feat[name][where] for name in self.inter_feat})

    def _note_split(self, feats: Sequence[Interaction]) -> None:
        parts = [(feat[self.uid_field].numpy(), feat[self.iid_field].numpy()) for feat in feats]
        self._split_sizes = tuple(len(feat) for feat in feats)
        self._split_hash = fingerprint(
            self.field2id_token[self.uid_field], self.field2id_token[self.iid_field], parts
        )

    def fingerprint(self) -> str:
        """Return the hash of the split by tokens; runs with equal texts saw the same split.

        Raises:
            DataError: The data set has not been split yet.
        """
        if self._split_hash is None:
            raise DataError("the data set has no fingerprint before build() has split it")
        return self._split_hash

    def statistics(self) -> dict[str, Any]:
        """Return the numbers of the paper's Table I and of the split; [PAD] is never counted."""
        users, items = self.user_num - 1, self.item_num - 1
        interactions = sum(self._split_sizes) or self.inter_num
        graph = self.knowledge
        return {
            "dataset": self.dataset_name,
            "protocol": self.protocol,
            "users": users,
            "items": items,
            "interactions": interactions,
            "density": interactions / (users * items),
            "split": list(self._split_sizes),
            "entities": graph.n_entities - 1,
            "relations": graph.n_relations - 1,
            "triples": graph.n_triples,
            "linked_items": int(graph.linked.sum()),
            "features": {
                name: {"dim": part.matrix.shape[1], "items": part.n_observed}
                for name, part in self.features.items()
            },
            "fingerprint": self._split_hash,
            "notes": {note: count for note, count in self.notes.items() if count},
        }
