"""The rules of docs/design.md: modules import from their own room or a lower one.

Ranks are distinct, so no two rooms can import each other.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# From the lowest to the highest.
RANKS = [
    {"runtime"},
    {"model"},
    {"losses"},
    {"published_losses"},
    {"config"},
    {"data_loader"},
    {"training"},
    {"evaluation"},
    {"faces"},
    {"methods"},
    {"reports"},
    {"gallery"},
    {"experiments"},
    {"benchmarks"},
]
COMMANDS = {"main", "evaluate", "reproduce", "prepare", "describe", "search"}
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
RANK.update({command: len(RANKS) for command in COMMANDS})
# Modules that need nothing but numpy and the standard library.
NUMPY_ALONE = ("evaluation.codes", "evaluation.metrics", "evaluation.open_set")


def source_files():
    """Path below the root -> syntax tree, of all our modules but the tests."""
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard",
                              "*.py"], check=True, stdout=subprocess.PIPE, universal_newlines=True)
    paths = [Path(line) for line in tracked.stdout.splitlines()]
    return {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in paths
            if path.parts[0] not in ("tests", "docs") and (ROOT / path).exists()}


FILES = source_files()
MODULES = {".".join(path.with_suffix("").parts): path for path in FILES}


def imported_modules(path):
    """Names of our modules that one imports, anywhere in it."""
    found = set()
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module] + [node.module + "." + alias.name for alias in node.names]
        else:
            continue
        found.update(name for name in names if name in MODULES)
    return found


def test_every_module_has_a_rank():
    assert len(MODULES) > 20 and {name.split(".")[0] for name in MODULES} <= set(RANK)


def test_imports_go_one_way():
    for name, path in MODULES.items():
        for other in imported_modules(path):
            assert other.split(".")[0] not in COMMANDS, f"{name} imports the command {other}"
            assert RANK[other.split(".")[0]] <= RANK[name.split(".")[0]], (
                f"{name} imports {other}, which ranks above it")


def test_no_cycles():
    imports = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    while imports:
        leaves = {name for name, others in imports.items() if not others & set(imports)}
        assert leaves, f"these import each other in a circle: {sorted(imports)}"
        imports = {name: others for name, others in imports.items() if name not in leaves}


def test_tensorflow_is_imported_once():
    for path, tree in FILES.items():
        for node in ast.walk(tree):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                     else [node.module] if isinstance(node, ast.ImportFrom) else [])
            if any(name.split(".")[0] in ("tensorflow", "tflearn") for name in names):
                assert str(path) == "runtime/tensorflow.py"


@pytest.mark.parametrize("module", NUMPY_ALONE)
def test_codes_and_metrics_need_numpy_alone(module):
    """Imported where every package but numpy (and what numpy itself imports) is absent."""
    script = f"""
import sys, numpy
allowed = set(sys.modules)
import importlib
importlib.import_module({module!r})
foreign = {{name.split(".")[0] for name in set(sys.modules) - allowed
            if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "")}}
sys.exit(", ".join(sorted(foreign - {{"numpy"}})) or 0)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT,
                             stderr=subprocess.PIPE, universal_newlines=True)
    assert process.returncode == 0, process.stderr
