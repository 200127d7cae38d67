"""How RecBole's data set class gets its files: checked, counted, by compiled code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import KnowledgeBasedDataset
from recbole.utils import FeatureSource, FeatureType

from recbole_slif.data.linking import clean_triples
from recbole_slif.data.locate import missing_file
from recbole_slif.data.protocol import option
from recbole_slif.data.tables import read_table
from recbole_slif.errors import DataError


def different_columns(paths: Iterable[Path]) -> DataError:
    """Return the error for interaction files that cannot be joined to one table."""
    first, *others = paths
    names = ", ".join(path.name for path in (first, *others))
    return DataError(
        f"{first.parent}: {names} have different columns, or other types for them; make them equal"
    )


def _finite(path: str | Path, name: str, texts: np.ndarray) -> np.ndarray:
    """Return texts as numbers.

    Raises:
        DataError: one of them is no number, or not a finite one.
    """
    try:
        numbers = texts.astype(np.float64)
        if np.isfinite(numbers).all():
            return numbers
    except ValueError:
        pass
    raise DataError(
        f"{path}: column '{name}' holds '{' '.join(texts)}', which are no finite numbers; correct "
        "them or leave the cell empty"
    )


class CheckedReading(KnowledgeBasedDataset):
    """Replaces RecBole's file reading; ids, filters and splits are the subclass's.

    Attributes:
        notes: What was dropped or repaired on loading, with counts.
        inter_feat: Interactions, a frame that becomes an `Interaction` in `build()`.
        kg_feat: Triples, likewise.
    """

    notes: Counter[str]
    inter_feat: Any
    kg_feat: Any
    _files: list[tuple[Path, int]]

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        tables, heads = [], []
        longest: Counter[str] = Counter()
        for path, _ in self._files:
            tables.append(self._load_feat(path, FeatureSource.INTERACTION))
            heads.append({name: self.field2type[name] for name in tables[-1]})
            longest |= Counter({name: self.field2seqlen[name] for name in tables[-1]})
        if any(head != heads[0] for head in heads):
            raise different_columns(path for path, _ in self._files)
        self.field2seqlen |= dict(longest)
        self.inter_feat = pd.concat(tables, ignore_index=True)
        if self.inter_feat.empty:
            path = Path(dataset_path) / self._files[0][0].name
            raise DataError(f"{path}: no interactions below the header; add one a line")
        sizes = [len(table) for table in tables]
        self._phase = np.repeat([phase for _, phase in self._files], sizes)

    def _load_user_or_item_feat(
        self, token: str, dataset_path: str, source: FeatureSource, field_name: str
    ) -> Any:
        name = f"{token}.{source.value}"
        if self.config["load_col"].get(source.value) and not (Path(dataset_path) / name).is_file():
            self.notes[f"no {name}, of which load_col names columns"] += 1
        return super()._load_user_or_item_feat(token, dataset_path, source, field_name)

    def _load_additional_feat(self, token: str, dataset_path: str) -> None:
        for suffix in option(self.config, "additional_feat_suffix", ()):
            if not (Path(dataset_path) / f"{token}.{suffix}").is_file():
                raise missing_file(Path(dataset_path), f"{token}.{suffix}")
        super()._load_additional_feat(token, dataset_path)

    def _get_load_and_unload_col(self, source: Any) -> tuple[Any, Any]:
        # The key load_col differs between model types in RecBole; the graph must not.
        if source == FeatureSource.KG:
            return {self.head_entity_field, self.relation_field, self.tail_entity_field}, None
        if source == "link":
            return {self.iid_field, self.entity_field}, None
        return super()._get_load_and_unload_col(source)

    def _required_fields(self, source: Any) -> list[str]:
        return {
            FeatureSource.INTERACTION: [self.uid_field, self.iid_field],
            FeatureSource.USER: [self.uid_field],
            FeatureSource.ITEM: [self.iid_field],
            FeatureSource.KG: [self.head_entity_field, self.relation_field, self.tail_entity_field],
            "link": [self.iid_field, self.entity_field],
        }.get(source, [])

    def _load_feat(self, filepath: str | Path, source: Any) -> Any:
        """Read one atomic file through `read_table` and note its fields as RecBole does."""
        keep, drop = self._get_load_and_unload_col(source)
        if keep == set():
            return None
        table = read_table(
            Path(filepath),
            separator=option(self.config, "field_separator", "\t"),
            encoding=option(self.config, "encoding", "utf-8"),
            keep=keep,
            drop=drop or (),
            required=self._required_fields(source),
        )
        for note, count in table.notes.items():
            self.notes[f"{Path(filepath).name}: {note}"] += count
        whose = {FeatureSource.USER: self.uid_field, FeatureSource.ITEM: self.iid_field}.get(source)
        if whose is not None:
            repeated = int(table.frame.duplicated(whose).sum())
            self.notes[f"{Path(filepath).name}: further lines of one {whose}, dropped"] += repeated
        for name in sorted(set(keep or ()) - set(table.types)):
            self.notes[f"{Path(filepath).name}: no column '{name}', which load_col names"] += 1
        for name, kind in table.types.items():
            if source == "link":
                continue
            self.set_field_property(name, FeatureType(kind), source, 1)
            if kind.startswith("float"):
                self.field2bucketnum[name] = 2
            if kind.endswith("seq"):
                table.frame[name] = self._parse_sequences(filepath, name, kind, table.frame[name])
        return table.frame

    def _parse_sequences(self, path: str | Path, name: str, kind: str, cells: pd.Series) -> list:
        separator = option(self.config, "seq_separator", " ")
        limit = option(self.config, "seq_len", {}).get(name)
        rows = [
            np.array([part for part in cell.split(separator) if part], dtype=object)
            for cell in cells
        ]
        if kind == "float_seq":
            rows = [_finite(path, name, row) for row in rows]
        longest = max(map(len, rows), default=0)
        self.field2seqlen[name] = min(longest, limit) if limit else longest
        return [row[:limit] for row in rows]

    def _load_kg(self, token: str, dataset_path: str) -> pd.DataFrame:
        fields = [self.head_entity_field, self.relation_field, self.tail_entity_field]
        path, link = (Path(dataset_path) / f"{token}{end}" for end in (".kg", ".link"))
        if path.is_file() != link.is_file():
            absent, other = (link, path) if path.is_file() else (path, link)
            raise missing_file(Path(dataset_path), f"{absent.name} beside {other.name}")
        if not path.is_file():
            for name in fields:
                self.set_field_property(name, FeatureType.TOKEN, FeatureSource.KG, 1)
            return pd.DataFrame({name: np.empty(0, dtype=object) for name in fields})
        frame = self._load_feat(path, FeatureSource.KG)
        return clean_triples(frame[fields], self.notes)

    def _load_link(self, token: str, dataset_path: str) -> tuple[dict, dict]:
        path = Path(dataset_path) / f"{token}.link"
        names = [self.iid_field, self.entity_field]
        if path.is_file():
            self._links = self._load_feat(path, "link")[names]
        else:
            self._links = pd.DataFrame({name: np.empty(0, dtype=object) for name in names})
        return {}, {}
