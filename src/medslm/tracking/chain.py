"""The chain of stages behind a result, out of a dvc.lock: what ran, on which bytes, into which bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from medslm.tracking.lockfile import Lock

_CODE = (".py", ".txt", ".html")


class Link(NamedTuple):
    """One stage: its commands, and the MD5 of the data it read and wrote. Code is left out."""

    stage: str
    commands: tuple[str, ...]
    read: Mapping[str, str]
    written: Mapping[str, str]


def chain(lock: Lock, ends: Iterable[str]) -> list[Link]:
    """Return the stages that lead to ``ends``, each after what it reads, in the same order every time."""
    makers = {path: name for name, stage in lock.items() for path in _paths(stage, "outs")}
    order: dict[str, Link] = {}

    def visit(name: str) -> None:
        if name in order:
            return
        read = _paths(lock[name], "deps")
        for path in sorted(read):
            for maker in _makers(makers, path):
                if maker != name and maker in lock:
                    visit(maker)
        order[name] = _link(name, lock[name])

    for end in sorted(ends):
        visit(end)
    return list(order.values())


def _makers(makers: Mapping[str, str], path: str) -> list[str]:
    """Return the stages that made a path, lie around it, or made what lies in the folder it is."""
    wanted = PurePosixPath(path)
    found = [
        name
        for made, name in makers.items()
        if wanted == PurePosixPath(made)
        or wanted in PurePosixPath(made).parents
        or PurePosixPath(made) in wanted.parents
    ]
    return sorted(found)


def _link(name: str, stage: Mapping[str, Any]) -> Link:
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    read = {p: md5 for p, md5 in _paths(stage, "deps").items() if not _is_code(p)}
    return Link(name, tuple(" ".join(c.split()) for c in commands), read, _paths(stage, "outs"))


def _is_code(path: str) -> bool:
    return path.startswith("src/") or path.endswith(_CODE)


def _paths(stage: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {str(entry["path"]): str(entry.get("md5", "")) for entry in stage.get(kind, [])}
