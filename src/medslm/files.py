"""Bytes in and out: JSON Lines of records, whole-file writes, hashes and locks."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from medslm.errors import DataError, IntegrityError, LockHeld

R = TypeVar("R")

_LOCK_PAUSES_S = (0.05, 0.15, 0.0)

_adapters: dict[type[Any], Any] = {}  # building one takes longer than reading a small file

MAX_LINE_BYTES = (
    1 << 20
)  # reliability-facts: a 200 MB line parses happily; no record of ours is near this


def read_jsonl(path: Path, record: type[R]) -> list[R]:
    """Read one ``record`` (a frozen dataclass) per line.

    A bad line raises DataError naming file, line and field; so does a missing file.
    """
    adapter = _adapter(record)
    rows: list[R] = []
    for number, line in _lines(path):
        try:
            rows.append(adapter.validate_json(line))
        except ValueError as exc:
            raise DataError(f"{path}:{number}: not a {record.__name__}: {_first(exc)}") from None
    return rows


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write dataclass records as JSON Lines, sorted keys, whole or not at all; return the count."""
    count = 0
    with writing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            stream.write(dump_json(dataclasses.asdict(row)) + "\n")
            count += 1
    return count


def dump_json(value: object, *, indent: int | None = None) -> str:
    """Return canonical JSON: sorted keys, ASCII, no NaN. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=indent)


def read_json(path: Path) -> Any:
    """Read one JSON value; NaN, Infinity and repeated keys raise DataError, as does a missing file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (UnicodeDecodeError, IsADirectoryError) as exc:
        raise DataError(f"{path}: not a UTF-8 text file ({exc})") from None
    try:
        return loads_strict(text)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path}: not JSON: {exc}") from None


def loads_strict(text: str) -> Any:
    """Parse JSON; ValueError also for what Python lets through: NaN, Infinity, repeated keys."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def write_json(path: Path, value: object) -> None:
    """Write one JSON value, indented for git diffs, whole or not at all."""
    write_text(path, dump_json(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a neighbour of ``path`` to write to; on success it is made durable and takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty neighbour folder to fill; on success it replaces ``path`` as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in sorted(p for p in partial.rglob("*") if p.is_file()):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        _sync_folder(partial)
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: object) -> str:
    """Return the hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(dump_json(value).encode("ascii")).hexdigest()


def require_sha256(path: Path, expected: str) -> None:
    """Raise IntegrityError with both hashes unless ``path`` has the expected one."""
    found = sha256_of(path)
    if found != expected:
        raise IntegrityError(
            f"{path}: sha256 is {found}, expected {expected}; "
            "the source changed or the file is damaged: fetch it again or pin the new hash"
        )


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; raise LockHeld naming the holder's pid if another has it.

    The kernel frees the lock with the process, so a killed holder leaves none behind, and an orphan
    of a killed ``dvc repro`` still holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        if not _locked(stream):
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockHeld(
                f"{what} is already being worked on by process {holder} ({path}); "
                "wait for it to finish or stop it, then run again"
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def _locked(stream: IO[str]) -> bool:
    """Take the lock, or give up after a fifth of a second.

    Libraries ask the machine things in children (openai runs `uname -p`). One that is between fork
    and exec when its parent is killed holds the parent's lock for some milliseconds more.
    """
    for pause_s in _LOCK_PAUSES_S:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return True
    return False


def _adapter(record: type[Any]) -> Any:
    if record not in _adapters:
        from pydantic import TypeAdapter

        _adapters[record] = TypeAdapter(record)
    return _adapters[record]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) split at newlines only: PubMedQA holds U+2029, which str.splitlines cuts at."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    with stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: line is longer than {MAX_LINE_BYTES} bytes")
            yield number, line


def _first(exc: ValueError) -> str:
    """Return pydantic's first complaint as one line without the value."""
    errors = getattr(exc, "errors", None)
    if errors is None:
        return str(exc)
    first = errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
