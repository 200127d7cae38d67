"""`noise`: writes the noisy copies of the robustness study, drawn as the experiment draws them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_slif.errors import DataError

from . import loading
from .writing import write_text

if TYPE_CHECKING:
    from recbole_slif.data.loaders import SplitData

    from .disk_data import DiskData

Save = Callable[[str, Path], list[str]]

DESCRIPTION = """\
Write a copy of a data set for each kind and level of noise: `inter` replaces train and validation
pairs by items their user has never met, `kg` replaces tails, `modality` drops features. The draws
are those of --experiment=fig7_robustness with the same seed: levels are nested, the test part is
never touched. Each copy is OUT/KIND-LEVEL/NAME/ with its split in files of their own, to be read
with --data_path=OUT/KIND-LEVEL. An item or entity that the noise leaves without any interaction
or triple is not in the files."""
EXAMPLES = """\
  python -m dataset_tools noise --dataset ml-100k --kinds inter kg modality \\
      --levels 0.05 0.1 0.15 0.2 --seed 2020 --out noisy
  python run_recbole_slif.py --model=SLIFMR --dataset=ml-100k --data_path=noisy/inter-0.1"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `noise`."""
    loading.add_options(parser)
    parser.add_argument(
        "--kinds", nargs="+", choices=("inter", "kg", "modality"), required=True, help="of noise"
    )
    parser.add_argument(
        "--levels", nargs="+", type=float, default=[0.05, 0.1, 0.15, 0.2], help="%(default)s"
    )
    parser.add_argument(
        "--seed", type=int, help="of the draw; default: the key seed, as in the experiment"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        DataError: The data set is not usable or has nothing that this kind of noise disturbs.
        ConfigError: A key or value is not usable.
    """
    for level in options.levels:
        if not 0 < level < 1:
            raise DataError(f"--levels: {level} must lie between 0 and 1")
    if options.seed is not None and options.seed < 0:
        raise DataError(f"--seed: {options.seed} must be at least 0")
    from recbole_slif.experiment.noise import NEEDS
    from recbole_slif.experiment.pool import offers

    config = loading.configure(options.dataset, options)
    seed = int(config["seed"]) if options.seed is None else options.seed
    with loading.opened(config, options.out, pairs_alone=True) as data:
        for kind in options.kinds:
            lacking = [need for need in NEEDS[kind] if need not in offers(data.statistics)]
            if lacking:
                raise DataError(
                    f"--kinds: {kind} needs {lacking[0]}, which {options.dataset} lacks"
                )
        for kind in options.kinds:
            _write_levels(data, kind, seed, options)


def _write_levels(
    data: DiskData | SplitData, kind: str, seed: int, options: argparse.Namespace
) -> None:
    """Write the copies of one kind."""
    from .disk_data import DiskData

    write = _on_disk if isinstance(data, DiskData) else _in_memory
    for level, save in zip(options.levels, write(data, kind, seed, options.levels), strict=True):
        folder = options.out / f"{kind}-{level:g}" / options.dataset
        written = save(options.dataset, folder)
        # An earlier call's, of other settings, would be read beside them.
        for name in _noted_files(folder) - set(written):
            (folder / name).unlink(missing_ok=True)
        note = {
            "dataset": options.dataset,
            "noise": {"kind": kind, "level": level, "seed": seed},
            "split_of": data.statistics["fingerprint"],
            "files": written,
        }
        write_text(folder / "noise.json", json.dumps(note, indent=2) + "\n")
        print(f"{folder}: {kind} noise of {level:g}, seed {seed}, {len(written)} files")


def _noted_files(folder: Path) -> set[str]:
    """Return the names of the files that an earlier call wrote into a copy's folder."""
    try:
        names = json.loads((folder / "noise.json").read_text(encoding="utf-8"))["files"]
        return {Path(name).name for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _on_disk(data: Any, kind: str, seed: int, levels: Sequence[float]) -> Iterator[Save]:
    """Yield what saves the copy of each level."""
    from .disk_noise import noisy_copies
    from .disk_saving import save_disk_data

    noisy = noisy_copies(data, kind, seed)
    for level in levels:
        yield partial(save_disk_data, noisy(level))


def _in_memory(data: Any, kind: str, seed: int, levels: Sequence[float]) -> Iterator[Save]:
    """Yield what saves the copy of each level."""
    from recbole_slif.experiment.noise import Noise, add_noise

    from .saving import save_split_data

    for level in levels:
        yield partial(save_split_data, add_noise(data, Noise(kind, level), seed))
