"""The house rules of CONTRIBUTING.md that a machine can check."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.code_deps import ROOT, imported

SRC = ROOT / "src" / "medslm"
ROOMS = ["data", "teacher", "quality", "student", "evaluation", "tracking"]
SHARED = {"errors", "files", "params", "models", "signals"}
HEAVY = {
    "accelerate",
    "cleanlab",
    "datasets",
    "dvc",
    "great_expectations",
    "jinja2",
    "matplotlib",
    "mlflow",
    "numpy",
    "openai",
    "pandas",
    "peft",
    "ray",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "transformers",
}
MODULES = sorted(p for p in SRC.rglob("*.py") if p.name != "__init__.py")


def room(file: Path) -> str:
    """The folder below the package that a file lies in, at any depth; "" for the package's own."""
    first, *rest = file.relative_to(SRC).parts
    return first if rest else ""


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_all_modules_are_seen():
    assert len(MODULES) > 50
    assert {room(p) for p in MODULES} == {*ROOMS, "verbs", ""}


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_a_room_imports_only_to_its_left(file):
    allowed = SHARED | {"data"}
    if room(file) == "verbs" or name(file) in {"src/medslm/cli.py", "src/medslm/profile.py"}:
        allowed = SHARED | {*ROOMS, "profile", "verbs"}
    elif room(file):
        allowed = SHARED | set(ROOMS[: ROOMS.index(room(file)) + 1])
    elif file.stem in SHARED:
        allowed = SHARED

    used = {m.split(".")[1] for m in imported(file) if m.startswith("medslm.")}

    assert used - {"__init__"} <= allowed


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_heavy_libraries_are_imported_inside_functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            top |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            top.add(node.module.split(".")[0])

    # the one file that MLflow itself runs: it is loaded only where MLflow already is
    if name(file) != "src/medslm/tracking/served_model.py":
        assert not top & HEAVY


@pytest.mark.parametrize("folder", ["", *ROOMS, "verbs", "quality/suites"])
def test_packages_are_empty(folder):
    assert (SRC / folder / "__init__.py").read_text(encoding="utf-8") == ""


def test_nothing_imports_a_stage():
    files = [*MODULES, *(ROOT / "stages").glob("*.py")]

    assert not [name(f) for f in files if any(m.split(".")[0] == "stages" for m in imported(f))]


def test_every_test_file_is_python_that_asserts():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 30
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                body = ast.unparse(node)
                checks = ("assert", "raises")
                assert any(word in body for word in checks), f"{name(file)}: {node.name}"


def test_every_file_that_is_no_code_is_packaged():
    """An editable installation has them anyway; a wheel has what package-data names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["medslm"]
    package = ROOT / "src" / "medslm"
    packaged = {file for pattern in patterns for file in package.glob(pattern)}
    data = {
        file for file in package.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")
    }

    assert data == packaged
    assert {file.suffix for file in data} >= {".json", ".yaml", ".txt", ".html"}
