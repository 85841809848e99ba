"""The work folders of a variant's trainings: one per hash of all that shapes an adapter, its code too.

A change of that code begins a training anew in another folder. Whoever had checkpoints is told, and nothing
is removed: going back to earlier inputs, also for more seeds, finds their cells and checkpoints.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from medslm.files import sha256_of, sha256_of_json

log = logging.getLogger(__name__)

# What these two import, directly or not, shapes an adapter.
_ROOTS = ("student/cells.py", "student/sharding.py")
# But for what only tells of training or names its errors.
_ONLY_TELL = {"student/feed.py", "student/memory.py", "student/progress.py"}
_PACKAGE = Path(__file__).parent.parent


def code_identity(package: Path = _PACKAGE) -> str:
    """Return a hash of the code and libraries that shape an adapter: other ones start afresh."""
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("torch", "transformers", "peft")}
    return sha256_of_json(
        [{name: sha256_of(package / name) for name in shaping(package)}, libraries]
    )


def shaping(package: Path) -> list[str]:
    """Return the files of the student's room, and of the base model, that training runs."""
    found: set[str] = set()
    waiting = list(_ROOTS)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [f"{m}.py" for m in _imported(package / name) if (package / f"{m}.py").is_file()]
    return sorted(found - _ONLY_TELL)


def tell_of_others(work: Path) -> None:
    """Warn if ``work`` holds nothing to go on from and folders of the variant's other inputs do."""
    if _begun(work):
        return
    if begun := [str(folder) for folder in _others(work) if _begun(folder)]:
        log.warning(
            "training begins anew: checkpoints of other inputs, code or libraries are in %s; they are kept, "
            "delete them if nobody goes back to those",
            ", ".join(begun),
        )


def _imported(file: Path) -> Iterator[str]:
    """Yield the modules of models and the student's room that a file imports, as paths in the package."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name == "medslm.models" or name.startswith("medslm.student."):
                yield name.removeprefix("medslm.").replace(".", "/")


def _others(work: Path) -> list[Path]:
    """Return the folders beside ``work`` that are named after the same variant and another hash."""
    variant, _, identity = work.name.rpartition("-")
    same = re.compile(rf"{re.escape(variant)}-[0-9a-f]{{{len(identity)}}}")
    found = [path for path in work.parent.glob("*") if path.is_dir() and same.fullmatch(path.name)]
    return sorted(path for path in found if path.name != work.name)


def _begun(work: Path) -> bool:
    return any(work.glob("*.checkpoints/step-????????"))
