"""Files of a git commit, and the data that its dvc.lock names, read without checking anything out."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medslm.data.entries import current
from medslm.errors import DataError, IntegrityError
from medslm.files import loads_strict, read_jsonl

R = TypeVar("R")

WORKING_TREE = "working tree"


@dataclass(frozen=True)
class Revision:
    """The project at ``root`` as a commit holds it, or as it lies there (``commit`` is None)."""

    root: Path
    commit: str | None

    @property
    def name(self) -> str:
        """The commit in seven digits, as git shows it."""
        return WORKING_TREE if self.commit is None else self.commit[:7]


class NotCachedError(Exception):
    """A file that a dvc.lock names is not in DVC's cache; the message is its path in the project."""


def revision(root: Path, name: str) -> Revision:
    """Return the commit that git calls ``name``; DataError if there is none."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done is None:
        raise DataError(f"{name!r} is no commit of the git repository at {root}: see `git log`")
    return Revision(root, done.strip())


def subject(rev: Revision) -> str:
    """Return the first line of the commit's message; empty for the working tree."""
    if rev.commit is None:
        return ""
    return (_git(rev.root, "log", "-1", "--format=%s", rev.commit) or "").strip()


def text(rev: Revision, path: str) -> str | None:
    """Return a file that git tracks, None if it is not there."""
    if rev.commit is not None:
        return _git(rev.root, "show", f"{rev.commit}:./{path}")
    file = rev.root / path
    return file.read_text(encoding="utf-8") if file.is_file() else None


def json_of(rev: Revision, path: str) -> Any:
    """Return a tracked JSON file, None if it is not there; DataError names commit and file."""
    found = text(rev, path)
    if found is None:
        return None
    try:
        return loads_strict(found)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{rev.name}:{path}: not JSON: {exc}") from None


def yaml_of(rev: Revision, path: str) -> dict[str, Any]:
    """Return a tracked YAML file; DataError names commit and file."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found = text(rev, path)
    if found is None:
        raise DataError(f"{rev.name}: holds no {path}: not a commit of a finished pipeline")
    try:
        body = YAML(typ="safe").load(found)  # YAML 1.2, as DVC writes it
    except YAMLError as exc:
        raise DataError(f"{rev.name}:{path}: not YAML: {' '.join(str(exc).split())}") from None
    if not isinstance(body, dict):
        raise DataError(f"{rev.name}:{path}: not a table of keys and values")
    return body


def outs(rev: Revision) -> dict[str, str]:
    """Return the MD5 of every file and folder that the stages of dvc.lock wrote, by path."""
    return _entries(rev, "outs")


def deps(rev: Revision) -> dict[str, str]:
    """Return the MD5 of every file and folder that the stages of dvc.lock read, by path."""
    return _entries(rev, "deps")


def outs_of(lock: Path) -> dict[str, str]:
    """Return `outs` of a dvc.lock in the working tree."""
    return outs(Revision(lock.parent, None))


def rows(rev: Revision, path: str, record: type[R]) -> list[R]:
    """Read JSON Lines that a stage wrote: from the working tree, or from DVC's cache by their MD5.

    ``path`` may lie in a folder that was written whole. DataError when no stage of the commit wrote
    it, `NotCachedError` when it is not at hand, IntegrityError when the cache holds other bytes.
    """
    return read_jsonl(_file(rev, path), record)


def objects(rev: Revision, path: str) -> list[dict[str, Any]]:
    """Read JSON Lines as `rows` does, as objects: a record may have had other fields at that commit."""
    return read_jsonl(_file(rev, path), dict[str, Any])


def _file(rev: Revision, path: str) -> Path:
    return rev.root / path if rev.commit is None else _cached(rev, path)


def _entries(rev: Revision, kind: str) -> dict[str, str]:
    stages = _lock(rev)
    return {
        str(entry["path"]): str(entry.get("md5", ""))
        for stage in stages.values()
        for entry in stage.get(kind, [])
    }


@functools.cache
def _lock(rev: Revision) -> dict[str, Any]:
    stages = yaml_of(rev, "dvc.lock").get("stages")
    if not isinstance(stages, dict):
        raise DataError(f"{rev.name}:dvc.lock: holds no stages: commit the one of a finished run")
    return current(stages, yaml_of(rev, "params.yaml"))


def _cached(rev: Revision, path: str) -> Path:
    known = outs(rev)
    if path in known:
        return _object(rev, path, known[path])
    for folder in Path(path).parents:
        if (digest := known.get(folder.as_posix(), "")).endswith(".dir"):
            listing = loads_strict(_object(rev, path, digest).read_text(encoding="utf-8"))
            inside = Path(path).relative_to(folder).as_posix()
            for entry in listing:
                if entry["relpath"] == inside:
                    return _object(rev, path, entry["md5"])
    raise DataError(f"{rev.name}: no stage of its dvc.lock wrote {path}")


def _object(rev: Revision, path: str, digest: str) -> Path:
    """Return where the cache keeps ``digest``, after a look at its bytes: DVC itself does not check."""
    file = _cache(rev.root) / digest[:2] / digest[2:]
    if not file.is_file():
        raise NotCachedError(path)
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, _md5).hexdigest()
    if found != digest.removesuffix(".dir"):
        raise IntegrityError(
            f"{path} of {rev.name}: md5 is {found}, dvc.lock says {digest}: the cache is damaged at "
            f"{file}; delete that file and run `dvc fetch --all-commits {path}`"
        )
    return file


def _md5() -> Any:
    """DVC's hash: it finds changes, it protects nothing."""
    return hashlib.md5(usedforsecurity=False)


@functools.cache
def _cache(root: Path) -> Path:
    """Return the folder of DVC's cached files, wherever the project's settings put it."""
    from dvc.config import Config

    set_to = Config(dvc_dir=str(root / ".dvc"), local_dvc_dir=None)["cache"].get("dir")
    return (Path(set_to) if set_to else root / ".dvc" / "cache") / "files" / "md5"


def _git(root: Path, *words: str) -> str | None:
    """Return what a git command prints, None if it fails."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        raise DataError("git is not installed: commits cannot be compared") from None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
