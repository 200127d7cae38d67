"""Finds the files of a data set, and says how to get what is missing."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from importlib import resources, util
from pathlib import Path

from recbole_slif.errors import DataError

EMBEDDED = "ml-100k"
_HELP = "docs/DATASETS.md says how to get or make them"
_ORIGINS = {
    "amazon-book": "`python -m dataset_tools release` makes them from Data/amazon-book of KGAT's "
    "release, github.com/xiangwang1223/knowledge_graph_attention_network",
    "yelp2018": "`python -m dataset_tools release` makes them from Data/yelp2018 of KGAT's "
    "release, github.com/xiangwang1223/knowledge_graph_attention_network",
    "alibaba-ifashion": "`python -m dataset_tools release` makes them from "
    "data/alibaba-fashion of KGIN's release, "
    "github.com/huangtinglin/Knowledge_Graph_based_Intent_Network",
}


def _candidates(data_path: str | Path, name: str) -> list[Path]:
    base = Path(data_path)
    try:
        return [path for path in (base / name, base) if path.is_dir() and path.name == name]
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data_path: '{base}' cannot be used ({reason})") from error


def resolve_folder(data_path: str | Path, name: str, known: Collection[str] = ()) -> Path:
    """Return the folder that holds data set `name`.

    `data_path` is either the folder that contains `name/` or `name/` itself, as RecBole's config
    rewrites it. `ml-100k` is embedded: without interactions of one's own, the files in the recbole
    wheel are used.

    Args:
        data_path: see above.
        name: the data set's name.
        known: further names to offer where this one is mistyped.

    Raises:
        DataError: There is no such folder; the text lists the files it should hold and says how to
            get them, or names the nearest data set that there is.
    """
    for folder in _candidates(data_path, name):
        if interaction_files(folder, name) or (name != EMBEDDED and any(folder.iterdir())):
            return folder
    if name == EMBEDDED:
        return embedded_folder()
    if name != Path(name).name:
        *above, last = Path(name).parts or ("",)
        place = f" and data_path '{Path(*above)}'" if above else ""
        raise DataError(f"data set '{name}' is a path; give the name '{last}'{place}")
    # RecBole's config appends the name to data_path; what the user typed is above it.
    base = Path(data_path)
    shown = base if base.name == name else base / name
    if name not in known and not shown.is_dir():
        raise _unknown_name(name, shown, known)
    files = f"{name}.inter, or {name}.train.inter and {name}.test.inter"
    if name in _ORIGINS:
        files = f"{name}.train.inter and {name}.test.inter"
    raise DataError(
        f"data set '{name}': no files in {shown}; it needs {files}, and for knowledge graph models "
        f"{name}.kg and {name}.link; set data_path or add them ({_ORIGINS.get(name, _HELP)})"
    )


def _unknown_name(name: str, shown: Path, known: Collection[str]) -> DataError:
    parent = shown.parent
    found = {path.name for path in parent.iterdir() if path.is_dir()} if parent.is_dir() else set()
    names = sorted({EMBEDDED, *known, *found})
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return DataError(
        f"data set '{name}' is not known: there is no folder '{shown}'{hint} "
        f"Known: {', '.join(names)}; for your own, put {name}.inter into {shown}/ or set data_path"
    )


def config_folder(data_path: str | Path, name: str, known: Collection[str] = ()) -> Path:
    """Return the folder that the key `data_path` is set to once a data set is chosen.

    That is the user's own folder where there is one, even if it holds features alone and the
    interactions are the embedded ones.

    Raises:
        DataError: see `resolve_folder`.
    """
    folder = resolve_folder(data_path, name, known)
    return next(iter(_candidates(data_path, name)), folder)


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
    """Build the error for those of the files `names` that a data set lacks."""
    what = " and ".join(name for name in names if not (folder / name).is_file())
    return DataError(f"{folder}: no {what}; {_ORIGINS.get(folder.name, _HELP)}")


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
