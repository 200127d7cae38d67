"""A pass over a loader that counts, shows a bar and can be stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from tqdm import tqdm

from recbole_slif.interrupt import InterruptGuard


class Batches:
    """The batches of one phase: counted, shown by a bar, stopped by the guard between two.

    Everything else (length, `shuffle`, `set_mode` ...) is the loader's own.
    """

    def __init__(self, loader: Any, guard: InterruptGuard, title: str, show: bool) -> None:
        self.loader = loader
        self.guard = guard
        self.title = title
        self.show = show
        self.number = -1
        self._bar: tqdm | None = None

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        """Hand everything else to the loader."""
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        """Yield the loader's batches."""
        leave = not sys.stderr.isatty()
        options: dict[str, Any] = {"ncols": 100, "leave": leave, "disable": not self.show}
        with tqdm(self.loader, total=len(self.loader), desc=self.title, **options) as bar:
            self._bar = bar
            for number, batch in enumerate(bar):
                self.number = number
                self.guard.check()
                yield batch
        self._bar = None

    def tell(self, losses: tuple[Tensor, ...]) -> None:
        """Show a batch's loss in the bar."""
        if self.show and self._bar is not None:
            total = sum(part.item() for part in losses)
            self._bar.set_postfix_str(f"loss {total:.4f}", refresh=False)
