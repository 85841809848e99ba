"""The journal of replies: append-only, checked by line, durable before a reply counts."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medslm.errors import IntegrityError
from medslm.files import dump_json, loads_strict, lock
from medslm.teacher.replies import Reply

log = logging.getLogger(__name__)


class Store:
    """Replies by request key, made by `open_store`, which holds the lock meanwhile."""

    def __init__(self, stream: io.FileIO, replies: dict[str, Reply]) -> None:
        self._stream = stream
        self._replies = replies

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def __getitem__(self, key: str) -> Reply:
        return self._replies[key]

    def __len__(self) -> int:
        return len(self._replies)

    def append(self, reply: Reply) -> None:
        """Write a reply to the disk, then count it as held; one that is held is left alone.

        An OSError leaves the journal as it is: a failed fsync is never tried again, the next
        opening reads what is really there.
        """
        if reply.key in self._replies:
            return
        line = encode(reply)
        view = memoryview(line)
        while view:
            view = view[self._stream.write(view) or 0 :]
        os.fsync(self._stream.fileno())
        self._replies[reply.key] = reply


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Open the journal in ``folder`` for this process alone.

    A last line that a kill or a power cut left incomplete is dropped. Raises LockHeld (at once) if
    another process writes here, IntegrityError naming the line if an earlier line is damaged.
    """
    with lock(folder / "lock", f"the reply journal {folder.name}"):
        path = folder / "journal.jsonl"
        with path.open("ab", buffering=0) as stream:
            replies, valid_bytes = read_journal(path)
            torn = path.stat().st_size - valid_bytes
            if torn:
                log.warning(
                    "%s: dropped %d bytes of a reply that was not fully written", path, torn
                )
                stream.truncate(valid_bytes)
            os.fsync(stream.fileno())
            _sync_folder(folder)
            yield Store(stream, replies)


def encode(reply: Reply) -> bytes:
    """Return a journal line: the reply with the CRC-32 of its canonical JSON."""
    body = dataclasses.asdict(reply)
    return (dump_json({"crc32": _crc(body), "reply": body}) + "\n").encode("ascii")


def decode(line: bytes) -> Reply:
    """Read a journal line back; ValueError if it is not exactly what `encode` wrote."""
    record = loads_strict(line.decode("ascii"))
    if not isinstance(record, dict) or set(record) != {"crc32", "reply"}:
        raise ValueError("not a journal line")
    if record["crc32"] != _crc(record["reply"]):
        raise ValueError("its checksum does not match")
    try:
        return Reply(**record["reply"])  # the checksum vouches for the types: we wrote them
    except TypeError:
        raise ValueError("its fields are not a reply's") from None


def read_journal(path: Path) -> tuple[dict[str, Reply], int]:
    """Return the replies and the length in bytes of the journal's whole lines.

    Only the last line can lack its end, because each is on the disk before the next is begun. A
    line with an end that is not what we wrote was damaged later: IntegrityError.
    """
    replies: dict[str, Reply] = {}
    valid = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                reply = decode(line)
            except (ValueError, RecursionError) as exc:
                raise IntegrityError(
                    f"{path}:{number}: this reply is damaged ({exc}); delete that line to ask for it "
                    "again, what comes before it is whole"
                ) from None
            replies.setdefault(reply.key, reply)
            valid += len(line)
    return replies, valid


def _crc(body: Any) -> str:
    return f"{zlib.crc32(dump_json(body).encode('ascii')):08x}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
