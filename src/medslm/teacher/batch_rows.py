"""What a server tells about a batch and in its files, and which requests that leaves open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medslm.files import dump_json, loads_strict
from medslm.teacher.retry import Meaning, classify
from medslm.teacher.wire import MAX_BODY_BYTES, NoAnswer, short

# The states in which a batch changes no more (OpenAI API reference, the batch object).
TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})

_NAMED = re.compile(rb'"custom_id"\s*:\s*"([0-9a-f]{64})"')


class Fault(NamedTuple):
    """Why a batch failed as a whole."""

    code: str | None
    said: str


class Remote(NamedTuple):
    """A batch as the server tells it."""

    id: str
    status: str
    total: int
    completed: int
    failed: int
    output_file_id: str | None
    error_file_id: str | None
    faults: tuple[Fault, ...]


class Answer(NamedTuple):
    """A request's body with status 200, serialised by us: the file holds it as a value, not a text."""

    key: str
    text: str
    request_id: str


class Refusal(NamedTuple):
    """A request that was not answered and cost nothing, in the server's words."""

    key: str
    meaning: Meaning
    said: str


class Damaged(NamedTuple):
    """A line that is no row. It may have been paid for, by ``key`` if that can still be read."""

    key: str | None


Row = Answer | Refusal | Damaged


def read_row(line: bytes) -> Row:
    """Read one line of an output or error file; nothing in it is guessed but a damaged row's key."""
    try:
        value = loads_strict(line.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    key = value.get("custom_id") if isinstance(value, dict) else None
    if not isinstance(key, str):
        found = _NAMED.search(line)
        return Damaged(None if found is None else found[1].decode("ascii"))
    response, error = value.get("response"), value.get("error")
    if isinstance(response, dict) and type(status := response.get("status_code")) is int:
        if status == 200:
            text = dump_json(response.get("body"))[:MAX_BODY_BYTES]
            return Answer(key, text, str(response.get("request_id") or ""))
        body = response.get("body")
        inner = body.get("error") if isinstance(body, dict) else None
        return _refusal(key, status, f"HTTP {status}", inner)
    if isinstance(error, dict):
        # There is no status; 500 lets the code alone decide (batch_expired, batch_cancelled, ...).
        return _refusal(key, 500, str(error.get("code")), error)
    return Damaged(key)


def read_remote(value: dict[str, Any]) -> Remote:
    """Read a batch object; NoAnswer if it has no id or no status."""
    counts = value.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    total, completed, failed = (
        n if type(n := counts.get(name)) is int else 0 for name in ("total", "completed", "failed")
    )
    errors = value.get("errors")
    data = errors.get("data") if isinstance(errors, dict) else None
    faults = tuple(_fault(e) for e in data or () if isinstance(e, dict))
    output, error = (
        found if isinstance(found := value.get(name), str) and found else None
        for name in ("output_file_id", "error_file_id")
    )
    return Remote(
        text_of(value, "id"),
        text_of(value, "status"),
        total,
        completed,
        failed,
        output,
        error,
        faults,
    )


def text_of(value: dict[str, Any], name: str) -> str:
    """Return a field that must be there; NoAnswer if it is not a text."""
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise NoAnswer(f"an answer without {name}", charged=True)
    return found


@dataclass(slots=True)
class Harvest:
    """The rows of one batch, sorted. ``missing`` are reservations by key that no row ended yet.

    ``stored`` are keys whose bodies an earlier run put on the disk before it was stopped.
    """

    missing: dict[str, int]
    stored: frozenset[str]
    refused: list[tuple[Refusal, int]] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    nameless: int = 0
    foreign: int = 0
    repeated: int = 0
    cut: bool = False  # the file of answers did not come whole
    _known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._known = frozenset(self.missing)
        for key in self.stored:
            self.missing.pop(key, None)

    def take(self, row: Row) -> tuple[Answer, int] | None:
        """Sort a row in; an answer comes back with its reservation. A key's first row counts."""
        if row.key is None:
            self.nameless += 1
        elif row.key not in self._known:
            self.foreign += 1
        elif row.key not in self.missing:
            self.repeated += row.key not in self.stored
        elif isinstance(row, Answer):
            return row, self.missing.pop(row.key)
        elif isinstance(row, Refusal):
            self.refused.append((row, self.missing.pop(row.key)))
        else:
            self.torn[row.key] = self.missing.pop(row.key)
        return None

    def lost(self, *, all_missing: bool) -> dict[str, int]:
        """Take out, with reservations, the keys that may have been paid for and gave no body.

        A damaged row without a name is one of the missing ones; which does not matter for the bill.
        """
        count = len(self.missing) if all_missing else min(self.nameless, len(self.missing))
        keys = list(self.missing)[:count]
        return self.torn | {key: self.missing.pop(key) for key in keys}


def _refusal(key: str, status: int, what: str, error: Any) -> Refusal:
    fields = error if isinstance(error, dict) else {}
    codes = [None if (code := fields.get(n)) is None else str(code) for n in ("code", "type")]
    said = short(f"{what}: {fields.get('message') or 'no reason given'}", None)
    return Refusal(key, classify(status, *codes), said)


def _fault(error: dict[str, Any]) -> Fault:
    code, line = error.get("code"), error.get("line")
    where = f"line {line}: " if type(line) is int else ""
    return Fault(
        None if code is None else str(code),
        short(f"{code or 'no code'}: {where}{error.get('message') or 'no reason given'}", None),
    )
