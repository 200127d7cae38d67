"""Sparse patterns indexed by row and by column, for sums and products at their entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbole_slif.graph.grouping import group_by_key


@dataclass(frozen=True, eq=False)
class Incidence:
    """The entries (row, column) of a sparse pattern, indexed by row and by column.

    Entries are numbered in the order of the rows. Index tensors are int32.

    Attributes:
        row_offsets: `[n_rows + 1]` first entry of each row.
        columns: `[n]` column of each entry.
        column_offsets: `[n_columns + 1]` first place of each column in the order of the columns.
        rows: `[n]` rows, in the order of the columns.
        by_column: `[n]` entries, in the order of the columns.
    """

    row_offsets: Tensor
    columns: Tensor
    column_offsets: Tensor
    rows: Tensor
    by_column: Tensor

    @classmethod
    def build(
        cls,
        rows: np.ndarray,
        columns: np.ndarray,
        shape: tuple[int, int],
        device: torch.device | str | None = None,
    ) -> Incidence:
        """Index entries given in ascending order of their rows `[n]`; shape is rows, columns."""
        by_column, column_offsets = group_by_key(columns.astype(np.int32), shape[1])
        row_offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
        arrays = (row_offsets, columns, column_offsets, rows[by_column], by_column)
        return cls(*(index_tensor(array, device) for array in arrays))

    def only(self, kept: Tensor) -> Incidence:
        """Return the pattern of the entries where `kept` `[n]` is true; rows and columns stay."""
        places = kept.nonzero().squeeze(1)
        before = places_before(kept)
        kept_by_column = kept.index_select(0, self.by_column)
        column_places = kept_by_column.nonzero().squeeze(1)
        entries = self.by_column.index_select(0, column_places)
        return Incidence(
            before.index_select(0, self.row_offsets),
            self.columns.index_select(0, places),
            places_before(kept_by_column).index_select(0, self.column_offsets),
            self.rows.index_select(0, column_places),
            before.index_select(0, entries),
        )


def index_tensor(array: np.ndarray, device: torch.device | str | None) -> Tensor:
    """Return an array `[n]` as an int32 tensor on `device`."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32)).to(device)


def places_before(kept: Tensor) -> Tensor:
    """Count the true flags before each place of `kept` `[n]` and in all, `[n + 1]` int32."""
    return torch.cat([kept.new_zeros(1, dtype=torch.int32), kept.cumsum(0, dtype=torch.int32)])
