"""Which files of this project a stage runs, found from its imports; also rewrites dvc.yaml to say so.

Run ``python -m tests.code_deps`` (``make deps``) after a stage's imports changed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

# Files that are read as data by a module: whoever runs the module depends on them.
DATA_OF = {
    "src/medslm/teacher/prompts.py": ["src/medslm/teacher/prompts"],
    "src/medslm/tracking/registry.py": ["src/medslm/tracking/served_model.py"],
    "src/medslm/evaluation/report.py": ["src/medslm/evaluation/report.html"],
}


def needed_by(entry: Path) -> set[str]:
    """Return the project's files that ``entry`` imports, itself included, imports in functions too."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [f for name in imported(file) if (f := module_file(name)) is not None]
    files = {str(f.relative_to(ROOT)) for f in found}
    return files | {data for f in files for data in DATA_OF.get(f, [])}


def imported(file: Path) -> list[str]:
    """Return every module name imported anywhere in ``file``, with what ``from x import y`` may mean."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def module_file(name: str) -> Path | None:
    """Return the file of one of our modules; None for other packages and for ``__init__``."""
    if name.split(".")[0] != "medslm":
        return None
    path = ROOT / "src" / Path(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def entries(command: str | list[str]) -> set[Path]:
    """Return the stage files a DVC command runs."""
    lines = [command] if isinstance(command, str) else command
    return {ROOT / word for line in lines for word in line.split() if word.startswith("stages/")}


def stages() -> dict[str, Any]:
    """Return dvc.yaml's stages by name, ``foreach`` ones as their ``do`` part."""
    import yaml

    body = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in body.items()}


def code_deps(stage: dict[str, Any]) -> set[str]:
    """Return those of a stage's deps that are code, or data that code reads."""
    return {dep for dep in stage.get("deps", []) if dep.startswith(("stages/", "src/"))}


def needed_by_stage(stage: dict[str, Any]) -> set[str]:
    """Return all project files that a stage's command runs."""
    return {file for entry in entries(stage["cmd"]) for file in needed_by(entry)}


def rewrite() -> None:
    """Replace the code deps in dvc.yaml by the ones found, data deps first, comments kept."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    body = yaml.load(path.read_text(encoding="utf-8"))
    for stage in body["stages"].values():
        part = stage.get("do", stage)
        data = [d for d in part.get("deps", []) if not d.startswith(("stages/", "src/"))]
        part["deps"] = [*data, *sorted(needed_by_stage(part))]
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(body, stream)


if __name__ == "__main__":
    rewrite()
