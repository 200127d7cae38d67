"""Finds the files of a data set, and says how to get what is missing."""

from __future__ import annotations

from importlib import resources, util
from pathlib import Path

from recbole_slif.errors import DataError

EMBEDDED = "ml-100k"
_HELP = "docs/DATASETS.md says how to get or make them"


def _candidates(data_path: str | Path, name: str) -> list[Path]:
    base = Path(data_path)
    return [path for path in (base / name, base) if path.is_dir() and path.name == name]


def resolve_folder(data_path: str | Path, name: str) -> Path:
    """Return the folder that holds data set `name`.

    `data_path` is either the folder that contains `name/` or `name/` itself, as RecBole's config
    rewrites it. `ml-100k` is embedded: without interactions of one's own, the files in the recbole
    wheel are used.

    Raises:
        DataError: There is no such folder; the text lists the files it should hold.
    """
    for folder in _candidates(data_path, name):
        if interaction_files(folder, name) or (name != EMBEDDED and any(folder.iterdir())):
            return folder
    if name == EMBEDDED:
        return embedded_folder()
    # RecBole's config appends the name to data_path; what the user typed is above it.
    base = Path(data_path)
    shown = base if base.name == name else base / name
    raise DataError(
        f"data set '{name}': no files in {shown}; it needs {name}.inter, or {name}.train.inter "
        f"and {name}.test.inter, and for knowledge graph models {name}.kg and {name}.link; "
        f"set data_path or add them ({_HELP})"
    )


def feature_folders(data_path: str | Path, name: str) -> list[Path]:
    """Return the folders searched for features: the data set's own, then what we ship."""
    own = _candidates(data_path, name)
    return [*own, assets_folder()] if name == EMBEDDED else own


def embedded_folder() -> Path:
    """Return the folder of ml-100k inside the installed recbole package."""
    spec = util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("data set 'ml-100k' comes with recbole; pip install recbole==1.2.1")
    folder = Path(next(iter(spec.submodule_search_locations))) / "dataset_example" / EMBEDDED
    if not (folder / f"{EMBEDDED}.inter").is_file():
        raise DataError(f"{folder}: ml-100k is not part of this recbole; set data_path ({_HELP})")
    return folder


def assets_folder() -> Path:
    """Return the folder of the feature files that come with this package."""
    return Path(str(resources.files("recbole_slif") / "assets"))


def interaction_files(folder: Path, name: str) -> dict[str, Path]:
    """Return the interaction files that exist: keys among `all`, `train`, `valid`, `test`."""
    files = {"all": folder / f"{name}.inter"}
    files |= {part: folder / f"{name}.{part}.inter" for part in ("train", "valid", "test")}
    return {part: path for part, path in files.items() if path.is_file()}


def missing_file(folder: Path, *names: str) -> DataError:
    """Build the error for files that a data set lacks."""
    what = " and ".join(names)
    return DataError(f"{folder}: no {what}; {_HELP}")


def feature_files(
    folders: list[Path], name: str, feature_path: str | Path | None
) -> dict[str, Path]:
    """Return modality to `.npy` file; earlier places win, `feature_path` before all.

    Args:
        folders: Folders searched for `NAME.<modality>.npy`, in order.
        name: The data set's name.
        feature_path: A file or a folder given by the user; a folder may also hold plain
            `<modality>.npy`.

    Raises:
        DataError: `feature_path` is given and holds no feature file.
    """
    found: dict[str, Path] = {}
    if feature_path:
        place = Path(feature_path)
        found = _features_at(place, name)
        if not found:
            raise DataError(
                f"feature_path: {place} is neither a .npy file nor a folder with "
                f"{name}.<modality>.npy or <modality>.npy"
            )
    for folder in folders:
        for modality, path in _named_features(folder, name).items():
            found.setdefault(modality, path)
    return found


def _named_features(folder: Path, name: str) -> dict[str, Path]:
    prefix = f"{name}."
    paths = sorted(folder.glob("*.npy")) if folder.is_dir() else []
    named = {path.name[len(prefix) : -4]: path for path in paths if path.name.startswith(prefix)}
    return {modality: path for modality, path in named.items() if modality}


def _features_at(place: Path, name: str) -> dict[str, Path]:
    if place.is_file() and place.suffix == ".npy":
        return {place.stem.removeprefix(f"{name}."): place}
    found = _named_features(place, name)
    for path in sorted(place.glob("*.npy")) if place.is_dir() else []:
        if "." not in path.stem:
            found.setdefault(path.stem, path)
    return found
