"""Nothing is forgotten: each model, equation, key and file has what the house rules ask of it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import recbole
import yaml

from recbole_slif.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "recbole_slif"
SOURCES = sorted(PACKAGE.rglob("*.py"))
YAML_LINE = re.compile(r"^(?P<key>\w+):.*\S\s+# \((?P<type>[^)]+)\) (?P<meaning>\S.*)$")
TABLE_ROW = re.compile(
    r"^\| \((?P<number>\d+)\) \|[^|]*"
    r"\| `(?P<home>[^`]+)` \| `(?P<oracle>[^`]+)` \| `(?P<test>[^`]+)` \|$"
)
RECBOLE_FILES = ("overall.yaml", "dataset/sample.yaml")
TYPES = {"int", "float", "bool", "str", "list", "dict"}

# Who must not know of whom: folder or file -> what it never imports.
RUNTIME = {"trainer", "evaluation", "checkpoint", "quick_start", "stages", "cli"}
RUNTIME |= {"factory", "config"}
FORBIDDEN = {
    "errors": {"*"},
    "graph": {"data", "layers", "losses", "model", "experiment", "report", *RUNTIME},
    "layers": {"data", "model", "experiment", "report", *RUNTIME},
    "losses": {"data", "model", "experiment", "report", *RUNTIME},
    "data": {"layers", "losses", "model", "experiment", "report", *RUNTIME - {"config"}},
    "model": {"experiment", "report", *RUNTIME},
    "trainer": {"experiment", "report", "cli"},
    "evaluation": {"model", "layers", "losses", "experiment", "report", "trainer"},
    "experiment": {"report", "model"},
    "report": {
        "model",
        "layers",
        "losses",
        "graph",
        "data",
        "trainer",
        "quick_start",
        "stages",
        "factory",
    },
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_file(dotted: str) -> Path | None:
    """File of a module of the package, or None if there is none of that name."""
    plain = ROOT.joinpath(*dotted.split(".")).with_suffix(".py")
    folder = ROOT.joinpath(*dotted.split(".")) / "__init__.py"
    return next((path for path in (plain, folder) if path.is_file()), None)


def imported(path: Path) -> set[str]:
    """Dotted names of the package's modules (or of names in them) that a file imports."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "recbole_slif"}


def imported_at(node: ast.AST) -> set[str]:
    """First parts of the names that an import statement loads."""
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return (
        {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.Import)
        else set()
    )


def symbol(path: Path, dotted: str) -> ast.AST:
    """Definition of `function`, `Class` or `Class.method` in a file."""
    node: ast.AST = tree(path)
    for name in dotted.split("."):
        inside = {
            child.name: child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.FunctionDef | ast.ClassDef)
        }
        assert name in inside, f"{relative(path)} defines no {dotted}"
        node = inside[name]
    return node


def docstring(address: str) -> str:
    """Docstring of `file::symbol`."""
    name, dotted = address.split("::")
    path = ROOT / name
    assert path.is_file(), f"docs/PAPER.md names {name}, which does not exist"
    return ast.get_docstring(symbol(path, dotted)) or ""


# ---- models ----------------------------------------------------------------------------------


def settings_of(name: str) -> dict:
    return yaml.safe_load((ROOT / f"properties/model/{name}.yaml").read_text("utf-8"))


@pytest.mark.parametrize("name", MODELS)
def test_each_setting_of_a_model_is_explained_on_its_line(name):
    path = ROOT / f"properties/model/{name}.yaml"
    assert path.is_file(), f"{name} has no {relative(path)}"
    seen = set()
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith(("#", " ")):
            continue
        found = YAML_LINE.match(line)
        assert found, f"{relative(path)}:{number} is not 'key: value  # (type) meaning'"
        kind = found["type"].split(":")[0].split()[0].split("[")[0]
        assert kind in TYPES, f"{relative(path)}:{number} has the unknown type '{kind}'"
        assert found["key"] not in seen, f"{relative(path)}:{number} repeats {found['key']}"
        seen.add(found["key"])
        if "|" in found["type"]:
            choices = [choice.strip() for choice in found["type"].split(":", 1)[1].split("|")]
            value = str(settings_of(name)[found["key"]])
            assert value in choices, f"{relative(path)}:{number}: {value} is not among {choices}"
    assert seen == set(settings_of(name))


@pytest.mark.parametrize("name", MODELS)
def test_each_search_range_parses_and_names_a_known_key(name):
    path = ROOT / f"properties/hyper/{name}.hyper"
    assert path.is_file(), f"{name} has no {relative(path)}"
    overall = yaml.safe_load((ROOT / "properties/overall.yaml").read_text("utf-8"))
    lines = [line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
    assert any(lines), f"{relative(path)} is empty"
    for line in filter(None, lines):
        key, kind, choices = line.split(maxsplit=2)
        assert key in settings_of(name) or key in overall, f"{relative(path)}: unknown key {key}"
        assert kind in ("choice", "uniform", "quniform", "loguniform"), f"{relative(path)}: {line}"
        assert ast.literal_eval(choices if kind == "choice" else f"[{choices}]")


@pytest.mark.parametrize("name", MODELS)
def test_each_model_cites_its_paper(name):
    entry = MODELS[name]
    author, year = entry.paper.split()[0], re.search(r"\d{4}", entry.paper)[0]
    path = module_file(entry.path)
    assert path, f"{name}: {entry.path} does not exist"
    cited = f"{ast.get_docstring(tree(path))} {ast.get_docstring(symbol(path, name))}"
    assert author in cited, f"{relative(path)} does not name {author}"
    assert year in cited, f"{relative(path)} does not name the year {year}"


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_test_file(name):
    wanted = f"test_{name.lower()}.py"
    found = [path for path in (ROOT / "tests/model").rglob("test_*.py") if path.name == wanted]
    assert found, f"{name} has no tests/model/**/{wanted}"
    assert any(f"{name}" in path.read_text("utf-8") for path in found)


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_row_in_the_readme(name):
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    word = re.compile(rf"\b{re.escape(name)}\b")
    assert any(word.search(row) for row in rows), f"README.md has no table row for {name}"


# ---- equations -------------------------------------------------------------------------------


@cache
def equation_rows() -> dict[int, dict[str, str]]:
    lines = (ROOT / "docs/PAPER.md").read_text("utf-8").splitlines()
    rows = [found.groupdict() for line in lines if (found := TABLE_ROW.match(line))]
    numbers = [int(row["number"]) for row in rows]
    assert numbers == list(range(1, 25)), f"docs/PAPER.md lists the equations {numbers}"
    return {int(row["number"]): row for row in rows}


@pytest.mark.parametrize("number", range(1, 25))
def test_each_equation_has_a_home_that_says_so(number):
    home = equation_rows()[number]["home"]
    assert home.startswith("recbole_slif/")
    assert f"Eq. ({number})" in docstring(home), f"{home} does not say 'Eq. ({number})'"


@pytest.mark.parametrize("number", range(1, 25))
def test_each_equation_has_an_oracle_that_a_test_uses(number):
    row = equation_rows()[number]
    assert f"Eq. ({number})" in docstring(row["oracle"]), f"{row['oracle']} does not say so"
    name = row["oracle"].split("::")[1]
    test = ROOT / row["test"]
    assert test.is_file(), f"{row['test']} does not exist"
    assert re.search(rf"\b{name}\b", test.read_text("utf-8")), f"{row['test']} never uses {name}"


# ---- keys ------------------------------------------------------------------------------------


def key_pattern(node: ast.expr) -> str | None:
    """Regular expression of the keys a subscript can name, or None if it is not a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [
            re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+"
            for part in node.values
        ]
        return "".join(parts)
    return None


def is_settings(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in ("config", "settings", "chosen")


@cache
def keys_read(path: Path) -> set[str]:
    """Patterns of the keys a file reads: subscripts of a configuration, fields of settings."""
    found: set[str | None] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Subscript) and is_settings(node.value):
            found.add(key_pattern(node.slice))
        elif isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
            names = [field.target for field in node.body if isinstance(field, ast.AnnAssign)]
            found |= {name.id for name in names if isinstance(name, ast.Name)}
    return {pattern for pattern in found if pattern}


def reached(start: Path) -> set[Path]:
    """The file and the modules below `recbole_slif/model` that it reaches by imports."""
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in found or "model" not in path.parts:
            continue
        found.add(path)
        for name in imported(path):
            target = module_file(name) or module_file(name.rpartition(".")[0])
            waiting += [target] if target else []
    return found


@cache
def recbole_keys() -> set[str]:
    from recbole.utils.argument_list import (
        dataset_arguments,
        evaluation_arguments,
        general_arguments,
        training_arguments,
    )

    files = [Path(recbole.__file__).parent / "properties" / name for name in RECBOLE_FILES]
    written = {key for path in files for key in yaml.safe_load(path.read_text("utf-8"))}
    groups = (dataset_arguments, evaluation_arguments, general_arguments, training_arguments)
    derived = {"device", "MODEL_TYPE", "model", "dataset"}
    return {key for group in groups for key in group} | written | derived


@pytest.mark.parametrize("name", MODELS)
def test_each_key_a_model_reads_is_in_a_yaml(name):
    path = module_file(MODELS[name].path)
    assert path, f"{MODELS[name].path} does not exist"
    overall = yaml.safe_load((ROOT / "properties/overall.yaml").read_text("utf-8"))
    known = {*settings_of(name), *overall, *recbole_keys()}
    for file in reached(path):
        for pattern in keys_read(file):
            hits = [key for key in known if re.fullmatch(pattern, key)]
            assert hits, f"{relative(file)} reads '{pattern}', which no YAML of {name} holds"


@pytest.mark.parametrize("name", MODELS)
def test_each_key_of_a_model_is_read(name):
    path = module_file(MODELS[name].path)
    assert path, f"{MODELS[name].path} does not exist"
    runtime = [file for file in SOURCES if "model" not in file.relative_to(PACKAGE).parts]
    read = {pattern for file in [*reached(path), *runtime] for pattern in keys_read(file)}
    overall = yaml.safe_load((ROOT / "properties/overall.yaml").read_text("utf-8"))
    for key in set(settings_of(name)) - set(overall):  # those RecBole reads
        hit = any(re.fullmatch(pattern, key) for pattern in read)
        assert hit, f"nobody reads '{key}' of properties/model/{name}.yaml"


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_stay_short(path):
    place = path.relative_to(PACKAGE).parts[0]
    limit = {"layers": 180, "model": 240}.get(place, 400)
    length = len(path.read_text("utf-8").splitlines())
    assert length <= limit, f"{relative(path)} has {length} lines, more than {limit}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_arrows_never_point_back(path):
    place = path.relative_to(PACKAGE).with_suffix("").parts[0]
    forbidden = FORBIDDEN.get(place, set()) | ({"testing"} if place != "testing" else set())
    for name in imported(path):
        parts = name.split(".")
        if len(parts) < 2 or parts[1] == place:
            continue
        wrong = parts[1] in forbidden or "*" in forbidden
        assert not wrong, f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_heavy_or_absent_libraries_are_not_imported(path):
    unwanted = {"dgl", "torch_scatter", "faiss", "ray", "torch_geometric"}
    within = {
        "recbole_slif/hyper/ray_search.py": "ray",
        "recbole_slif/graph/approximate.py": "faiss",
    }
    if relative(path) in within:  # there within a function alone
        allowed = within[relative(path)]
        unwanted -= {allowed}
        assert not [node for node in tree(path).body if allowed in imported_at(node)]
    for node in ast.walk(tree(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            assert name.split(".")[0] not in unwanted, f"{relative(path)} imports {name}"
            assert not name.startswith("recbole.quick_start"), f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_operations_are_kernels(path):
    """Others would meet halves under mixed precision; `distributed.py` adds up whole losses."""
    allowed = {"recbole_slif/kernel.py", "recbole_slif/distributed.py"}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef) and relative(path) not in allowed:
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            assert "Function" not in bases, f"{relative(path)}: let {node.name} be a Kernel"


def test_the_readmes_results_are_those_of_the_table():
    readme = (ROOT / "README.md").read_text("utf-8").partition("\n## Results\n")[2]
    shown = rows_of(readme.partition("\n## ")[0])
    table = (ROOT / "docs/results/ml-100k/table2_overall/table.md").read_text("utf-8")
    assert sorted(shown) == sorted([name, *figures[:2]] for name, _, *figures in rows_of(table))
    assert [row[1] for row in shown] == sorted((row[1] for row in shown), reverse=True)
    assert len(shown) == len(MODELS)


def rows_of(text):
    """The cells of rows of means, without bold, underline and the zero before the point."""
    plain = re.sub(r"\*\*|</?u>", "", text).replace("0.", ".")
    rows = [line for line in plain.splitlines() if line.startswith("|") and "±" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
