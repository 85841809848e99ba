"""The lines of a reply journal, each with its checksum, and what they add up to."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from medslm.errors import IntegrityError
from medslm.files import dump_json, loads_strict
from medslm.teacher.replies import Body, Reply

HEADER = b"medslm-replies 1\n"
NOT_FIRST = "it is not the first line of a journal of this version"

# forget: what was received and replied for the key before counts no more; its money does.
Kind = Literal["sent", "body", "void", "lost", "reply", "note", "forget"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_BLOCK = 1 << 17  # fits a processor's cache: measured fastest of 2^14 to 2^20
HEAD = re.compile(
    rb"[0-9a-f]{8} (%s) ([0-9a-f]{64}) (0|[1-9][0-9]{0,17}) " % "|".join(KINDS).encode("ascii")
)
_REPLY: dict[str, tuple[type, ...]] = {
    "content": (str, type(None)),
    "created": (int,),
    "finish_reason": (str,),
    "paid_micros": (int,),
    "served_model": (str,),
    "structured": (bool,),
    "usage": (dict, type(None)),
}


class Line(NamedTuple):
    """One line of the journal; ``json`` is not parsed until somebody wants it."""

    kind: str
    key: str
    micros: int
    json: bytes


class Paid(NamedTuple):
    """A reply and what it cost in micro-dollars, wherever that was paid."""

    reply: Reply
    micros: int


class Account(NamedTuple):
    """What some keys cost: for what was received, and for attempts that may have been paid for."""

    micros: int
    lost_micros: int
    attempts: int
    lost: int


def encode(kind: Kind, key: str, micros: int, fields: object) -> bytes:
    """Return a line with its end; ValueError if `decode` would not take it back."""
    text = f"{kind} {key} {micros:d} {dump_json(fields)}".encode("ascii")
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    decode(line)
    return line


def decode(line: bytes) -> Line:
    """Read a line back; ValueError unless every byte of it is what `encode` wrote."""
    if line[:8] != b"%08x" % zlib.crc32(line[9:-1]):
        raise ValueError("its checksum does not match")
    if line[-1:] != b"\n":
        raise ValueError("its end is damaged")
    head = HEAD.match(line)
    if head is None:
        raise ValueError("it is no line of this version")
    kind, key, micros = head.groups()
    # Interned like the keys of requests: of 100,000 keys each is then in memory once.
    name = sys.intern(key.decode("ascii"))
    return Line(kind.decode("ascii"), name, int(micros), line[head.end() : -1])


def is_torn(number: int, line: bytes) -> bool:
    """Say whether this is a last line that a kill or a power cut left incomplete.

    One that is whole but for its end is not: its end was there and is damaged.
    """
    if line.endswith(b"\n"):
        return False
    if number == 1:
        return HEADER.startswith(line)
    try:
        decode(line[:-1] + b"\n")
    except ValueError:
        return True
    return False


def fields_of(paid: Paid) -> dict[str, Any]:
    """Return a reply without its key as JSON fields; ValueError if `paid_of` would refuse them."""
    fields = dataclasses.asdict(paid.reply)
    key = fields.pop("key")
    fields["paid_micros"] = paid.micros
    paid_of(key, fields)
    return fields


def paid_of(key: str, fields: Any) -> Paid:
    """Read a reply's JSON fields; ValueError naming the first that is not what it should be."""
    if not isinstance(fields, dict) or set(fields) != set(_REPLY):
        raise ValueError("its fields are not a reply's")
    for name, types in _REPLY.items():
        if type(fields[name]) not in types:
            raise ValueError(f"{name} is a {type(fields[name]).__name__}")
    if fields["paid_micros"] < 0:
        raise ValueError("paid_micros is negative")
    for name, count in (fields["usage"] or {}).items():
        if type(name) is not str or type(count) is not int:
            raise ValueError(f"usage.{name} is a {type(count).__name__}")
    fields = dict(fields)
    micros = fields.pop("paid_micros")
    return Paid(Reply(key=key, **fields), micros)


def body_line(body: Body) -> bytes:
    """Return the line of a body; its key and its money stand outside the JSON."""
    fields = body._asdict()
    return encode("body", fields.pop("key"), fields.pop("micros"), fields)


def read_line(line: Line) -> object:
    """Return what a line's JSON holds: Paid, Body, (name, value) of a note, fields for the rest.

    Raises ValueError if it is none of these; only a line that `encode` did not write can be.
    """
    fields = loads_strict(line.json.decode("ascii"))
    if line.kind == "reply":
        return paid_of(line.key, fields)
    if not isinstance(fields, dict):
        raise ValueError("it holds no fields")
    try:
        if line.kind == "body":
            return Body(key=line.key, micros=line.micros, **fields)
        if line.kind == "note":
            return fields["name"], fields["value"]
    except (TypeError, KeyError):
        raise ValueError(f"its fields are not a {line.kind}'s") from None
    return fields


def lines_of(descriptor: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number, offset, line) of an open file as long as it is now, whoever writes on.

    Lines have their end, except the last of a file that ends without one.
    """
    size = os.fstat(descriptor).st_size
    number, offset, position, length, rest = 1, 0, 0, _BLOCK, b""
    while block := os.pread(descriptor, min(length, size - position), position):
        position += len(block)
        block, start = rest + block, 0
        while end := block.find(b"\n", start) + 1:
            yield number, offset, block[start:end]
            number += 1
            offset += end - start
            start = end
        rest = block[start:]
        length = _BLOCK if start else length * 2  # a very long line costs no quadratic time
    if rest:
        yield number, offset, rest


class Index:
    """Where everything stands in a journal, and its running accounts.

    An attempt begins with a ``sent`` line and is ended by the next ``body``, ``void`` or ``lost``
    line of its key. If the next is ``sent`` again, the attempt was in flight when a run was killed:
    it is lost, and counts at its most. If there is none, it is ``open``.
    """

    def __init__(self) -> None:
        self.replies = 0
        self.settled_micros = 0
        self.open: dict[str, int] = {}
        self.notes: dict[str, int] = {}
        self._entries: dict[str, _Entry] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the keys that have a reply."""
        return (key for key, entry in self._entries.items() if entry.reply is not None)

    def reply(self, key: str) -> int | None:
        """Return where the reply of a key stands."""
        entry = self._entries.get(key)
        return None if entry is None else entry.reply

    def bodies(self, key: str) -> tuple[int, ...]:
        """Return where the bodies of a key stand, oldest first."""
        entry = self._entries.get(key)
        return () if entry is None else entry.bodies

    def account(self, keys: Iterable[str], adrift: Set[str]) -> Account:
        """Add up what ``keys`` cost; of open attempts only those that are ``adrift`` are lost."""
        micros = lost_micros = attempts = lost = 0
        for key in set(keys):
            entry = self._entries.get(key)
            if entry is None:
                continue
            micros += entry.micros
            lost_micros += entry.lost_micros
            attempts += entry.attempts
            lost += entry.lost
            if key in self.open and key in adrift:
                lost_micros += self.open[key]
                lost += 1
        return Account(micros, lost_micros, attempts, lost)

    def add(self, line: Line, offset: int) -> None:
        """Count a line that stands at ``offset``, after all that stand before it."""
        kind, key, micros, _ = line
        if kind == "note":
            self.notes[key] = offset
            return
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        if kind == "reply":
            if entry.reply is None:
                entry.reply = offset
                self.replies += 1
        elif kind == "forget":
            self.replies -= entry.reply is not None
            entry.reply, entry.bodies = None, ()
        elif kind == "sent":
            entry.attempts += 1
            if key in self.open:
                self._lose(entry, self.open[key])
            self.open[key] = micros
        else:
            self.open.pop(key, None)
            if kind == "lost":
                self._lose(entry, micros)
            elif kind == "body":
                entry.bodies += (offset,)
                entry.micros += micros
                self.settled_micros += micros

    def _lose(self, entry: _Entry, micros: int) -> None:
        entry.lost += 1
        entry.lost_micros += micros
        self.settled_micros += micros


class _Entry:
    """A key's part of the index: small, because there is one per request ever made."""

    __slots__ = ("attempts", "bodies", "lost", "lost_micros", "micros", "reply")

    def __init__(self) -> None:
        self.reply: int | None = None
        self.bodies: tuple[int, ...] = ()
        self.micros = self.lost_micros = self.attempts = self.lost = 0


def read_index(path: Path, descriptor: int) -> tuple[Index, int]:
    """Return the index of an open journal and the length in bytes of its whole lines.

    Only the last line can lack its end, because each group is on the disk before the next is begun.
    Anything else that is not what we wrote was damaged later: IntegrityError naming the line.
    """
    index, end = Index(), 0
    for number, offset, line in lines_of(descriptor):
        if is_torn(number, line):
            break
        try:
            if number > 1:
                index.add(decode(line), offset)
            elif line != HEADER:
                raise ValueError(NOT_FIRST)
        except ValueError as exc:
            raise damaged(path, number, exc) from None
        end = offset + len(line)
    return index, end


def damaged(path: Path, number: int, why: object) -> IntegrityError:
    """Say which line is damaged and that the others can be saved."""
    return IntegrityError(
        f"{path}:{number}: this line is damaged ({why}); `medslm replies verify "
        f"{path.parent.name}` lists all that are, `medslm replies repair {path.parent.name}` moves "
        "them away, so that only what they held is asked again"
    )
