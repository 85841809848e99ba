"""Reply journals as files for others, and what to do about damaged ones."""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from medslm.errors import DataError, IntegrityError
from medslm.files import dump_json, loads_strict, lock, writing
from medslm.teacher.journal import (
    HEAD,
    HEADER,
    KINDS,
    NOT_FIRST,
    Index,
    Line,
    Paid,
    decode,
    fields_of,
    is_torn,
    lines_of,
    paid_of,
    read_line,
)
from medslm.teacher.replies import STOP
from medslm.teacher.store import JOURNAL, open_store, read_only

_GROUP = 1000  # imported replies that are made durable together
_LISTED = 20  # damaged lines named one by one
_KEY = re.compile("[0-9a-f]{64}")


class Imported(NamedTuple):
    """How many replies of a file were new, and how many were held before."""

    added: int
    held: int


class Damage(NamedTuple):
    """A damaged line of a journal."""

    number: int
    why: str


class Verified(NamedTuple):
    """What a journal holds: lines by kind, replies, money, and what of it is damaged."""

    kinds: dict[str, int]
    replies: int
    spent_micros: int
    in_flight: int
    torn_bytes: int
    damaged: list[Damage]


class Repaired(NamedTuple):
    """How many pieces were moved into ``aside``, and how many failed replies were forgotten."""

    moved: int
    aside: Path | None
    forgotten: int


def export(folder: Path, out: Path) -> int:
    """Write every reply with what it cost as JSON Lines sorted by key; return their number.

    Equal replies give equal bytes, in whatever order they came, here or through an import.
    """
    _require_journal(folder)
    with read_only(folder) as view, writing(out) as partial, partial.open("wb") as stream:
        for key in sorted(view):
            stream.write(_row(view.paid(key)))
        return len(view)


def import_(folder: Path, file: Path) -> Imported:
    """Add the replies of an exported file that ``folder`` lacks; they cost nothing here.

    Nothing is written if the file is not what `export` wrote (DataError), or if a line is damaged
    or a key is held with another reply (IntegrityError).
    """
    for _ in _rows(file):  # before the folder of a misnamed teacher is made
        pass
    held = 0
    with open_store(folder) as store:
        for number, paid in _rows(file):
            key = paid.reply.key
            if key not in store:
                continue
            held += 1
            if store[key] != paid.reply:
                raise IntegrityError(
                    f"{file}:{number}: the journal {folder} holds another reply to {key}; nothing "
                    "was imported: one question has one reply, so take one side's journal as it is"
                )
        before = len(store)
        rows = (paid for _, paid in _rows(file))
        while group := list(islice(rows, _GROUP)):
            store.adopt(group)
        return Imported(len(store) - before, held)


def verify(folder: Path) -> Verified:
    """Read every byte of a journal, as it is now, and say what is there and what is damaged."""
    path = _require_journal(folder)
    kinds: Counter[str] = Counter()
    damage: list[Damage] = []
    index = Index()
    torn = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for number, offset, line in lines_of(descriptor):
            if is_torn(number, line):
                torn = len(line)
                break
            found = _examined(number, line)
            if isinstance(found, str):
                damage.append(Damage(number, found))
            elif found is not None:
                kinds[found.kind] += 1
                index.add(found, offset)
    finally:
        os.close(descriptor)
    spent = index.settled_micros + sum(index.open.values())
    return Verified(dict(kinds), index.replies, spent, len(index.open), torn, damage)


def verified_text(found: Verified) -> str:
    """Return what `verify` found as a small table."""
    rows: list[tuple[str, str]] = [(kind, str(found.kinds.get(kind, 0))) for kind in KINDS]
    rows += [
        ("keys with a reply", str(found.replies)),
        ("in flight", str(found.in_flight)),
        ("spent", f"${found.spent_micros / 1e6:.4f}"),
        ("torn bytes at the end", str(found.torn_bytes)),
        ("damaged lines", str(len(found.damaged))),
    ]
    width = max(len(value) for _, value in rows)
    return "\n".join(f"{name:<22}{value:>{width}}" for name, value in rows)


def require_undamaged(found: Verified, name: str) -> None:
    """Raise IntegrityError naming every damaged line and why, if there is one."""
    if found.damaged:
        listed = ", ".join(f"line {number} ({why})" for number, why in found.damaged[:_LISTED])
        more = f" and {len(found.damaged) - _LISTED} more" if found.damaged[_LISTED:] else ""
        raise IntegrityError(
            f"the reply journal {name} is damaged: {listed}{more}; `medslm replies repair {name}` "
            "moves these lines away, so that only what they held is asked again"
        )


def repair(folder: Path, *, retry_failed: bool) -> Repaired:
    """Move what is damaged into ``journal.damaged-N`` beside the journal, so that the rest works.

    A repaired journal lacks only what the damaged lines held. With ``retry_failed`` replies that
    are not whole are forgotten, so that they are asked again; their money stays in the accounts.
    """
    path = _require_journal(folder)
    aside: Path | None = None
    moved = 0
    with lock(folder / "lock", f"the reply journal {folder.name}"):
        damaged = verify(folder).damaged
        if damaged:
            aside = next(p for n in count(1) if not (p := folder / f"journal.damaged-{n}").exists())
            moved = _split(path, aside)
    forgotten = 0
    if retry_failed:
        with open_store(folder) as store:
            failed = [key for key in store if store[key].finish_reason != STOP]
            store.forget(failed)
            forgotten = len(failed)
    return Repaired(moved, aside, forgotten)


def _split(path: Path, aside: Path) -> int:
    """Leave the sound lines in a journal and put all others into ``aside``; return their number.

    They are on the disk there before the journal loses them.
    """
    moved = 0
    with (
        writing(path) as partial,
        writing(aside) as rest,
        path.open("rb") as stream,
        partial.open("wb") as kept,
        rest.open("wb") as lost,
    ):
        kept.write(HEADER)
        for number, _, line in lines_of(stream.fileno()):
            if isinstance(_examined(number, line), str):
                lost.write(line)
                moved += 1
                kept.writelines(_unglued(number, line))
            elif number > 1:
                kept.write(line)
        if kept.tell() == len(HEADER):
            raise IntegrityError(
                f"{path}: no line of it is whole, so this is no journal of this version; "
                "move it away to begin a new one"
            )
    return moved


def _unglued(number: int, line: bytes) -> list[bytes]:
    """Return the lines of a damaged one in which nothing but line ends is damaged, else none."""
    starts = [0, *(match.start() for match in HEAD.finditer(line, 1))]
    ends = [*starts[1:], len(line)]
    pieces = [line[start : end - 1] + b"\n" for start, end in zip(starts, ends, strict=True)]
    if any(isinstance(_examined(number + i, piece), str) for i, piece in enumerate(pieces)):
        return []
    return pieces[1:] if number == 1 else pieces


def _examined(number: int, line: bytes) -> Line | str | None:
    """Return a line that is sound to its last brace, None for the first one, or what is wrong."""
    if number == 1:
        return None if line == HEADER else NOT_FIRST
    try:
        found = decode(line)
        read_line(found)
    except (ValueError, RecursionError) as exc:
        return str(exc)
    return found


def _row(paid: Paid) -> bytes:
    fields = fields_of(paid) | {"key": paid.reply.key}
    return (dump_json(fields | {"crc32": _crc(fields)}) + "\n").encode("ascii")


def _rows(file: Path) -> Iterator[tuple[int, Paid]]:
    """Yield the line number and content of every line of an exported file."""
    try:
        stream = file.open("rb")
    except (FileNotFoundError, IsADirectoryError) as exc:
        raise DataError(f"{file}: no such file ({exc.strerror})") from None
    last = ""
    with stream:
        for number, line in enumerate(stream, start=1):
            try:
                paid = _paid(line)
            except (ValueError, RecursionError) as exc:
                raise DataError(f"{file}:{number}: not an exported reply: {exc}") from None
            if paid is None:
                raise IntegrityError(
                    f"{file}:{number}: this line is damaged (its checksum does not match); "
                    "nothing was imported: fetch or export the file again"
                )
            if paid.reply.key <= last:
                raise DataError(
                    f"{file}:{number}: its key comes before that of the line above, so `medslm "
                    "replies export` did not write this file; import several files one by one"
                )
            last = paid.reply.key
            yield number, paid


def _paid(line: bytes) -> Paid | None:
    """Read an exported line; None if its checksum does not match, ValueError if it is none."""
    fields = loads_strict(line.decode("ascii"))
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    key, crc = fields.get("key"), fields.pop("crc32", None)
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("key is not the key of a request")
    if crc != _crc(fields):
        return None
    del fields["key"]
    return paid_of(key, fields)


def _crc(fields: dict[str, Any]) -> str:
    return f"{zlib.crc32(dump_json(fields).encode('ascii')):08x}"


def _require_journal(folder: Path) -> Path:
    path = folder / JOURNAL
    if not path.is_file():
        there = sorted(p.parent.name for p in folder.parent.glob(f"*/{JOURNAL}"))
        raise DataError(
            f"{path}: no such reply journal (there are: {', '.join(there) or 'none'}); "
            "a teacher's first ask begins one"
        )
    return path
