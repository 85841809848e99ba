"""Find the fields of a reply: a JSON object, one fenced block, or ``key: value`` lines, numbered or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn

MAX_DEPTH = 20  # a reply needs one level; Python's own limit would depend on the caller's stack

# What a key stands for, by strategy where it is not the common one. A completion has one edit, as
# two lines.
_COMMON = {
    "question": "question",
    "answer": "answer",
    "long_answer": "long_answer",
    "reason": "long_answer",
    "conclusion": "long_answer",
}
_FIELDS_OF = {
    "counterfactual": {
        "edits": "edits",
        "change": "find",
        "into": "replace",
        "answer": "answer",
        "long_answer": "long_answer",
        "reason": "long_answer",
        "conclusion": "long_answer",
    },
}

# The field whose key a completion prompt ends in, so that a reply may start right with its value.
_FIRST_FIELD = {"counterfactual": "find", "pseudo-label": "answer", "answer": "answer"}
_NUMBERED = re.compile(
    r"^\d{1,2}\s?[.):]"
)  # "1. Question: ...": the key says what it is, not the number
_QUOTES = {'"': '"', "\u201c": "\u201d"}


class Unread(StrEnum):
    """Why a reply gave no pair. ``failed`` is followed by a colon and the finish reason."""

    FAILED = "failed"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    TOO_DEEP = "too_deep"
    BAD_UNICODE = "bad_unicode"
    NOT_JSON_OR_FIELDS = "not_json_or_fields"
    STRAY_TEXT = "stray_text"
    REPEATED_KEYS = "repeated_keys"
    WRONG_TYPE = "wrong_type"
    NO_QUESTION = "no_question"
    NO_ANSWER = "no_answer"
    UNKNOWN_ANSWER = "unknown_answer"
    NO_EDITS = "no_edits"
    EDIT_NOT_FOUND = "edit_not_found"
    EDIT_NOT_UNIQUE = "edit_not_unique"
    EDITS_OVERLAP = "edits_overlap"


class CannotReadError(Exception):
    """Ends the reading of one reply; ``parse`` turns it into an unreadable one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Repeated(ValueError):
    """A JSON object names a key twice."""


def find_fields(content: str, *, strategy: str, completes: bool) -> dict[str, object]:
    """Return what the reply gives for the fields of its strategy.

    These are question, answer and long_answer (also reason, conclusion); of a counterfactual edits
    (in lines: change and into), answer and long_answer. Keys count in any case, other keys are
    ignored. ``completes`` says that the reply completes a prompt that ended in a key, so that a
    first line without one is the value of that key. Raises CannotReadError.
    """
    known = _FIELDS_OF.get(strategy, _COMMON)
    body = _unfenced(content)
    if body.startswith(("{", "[")):
        return _json_fields(body, known)
    return _line_fields(body, known, _FIRST_FIELD.get(strategy, "question") if completes else None)


def _unfenced(content: str) -> str:
    """Return what stands between one pair of code fences, whatever is said around it."""
    lines = content.split("\n")
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    if not fences:
        return content
    if len(fences) != 2:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return "\n".join(lines[fences[0] + 1 : fences[1]]).strip()


def _json_fields(body: str, known: Mapping[str, str]) -> dict[str, object]:
    if _depth(body) > MAX_DEPTH:
        raise CannotReadError(Unread.TOO_DEEP)
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Repeated as exc:
        raise CannotReadError(Unread.REPEATED_KEYS) from exc
    except ValueError as exc:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS) from exc
    if not isinstance(value, dict):
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    fields: dict[str, object] = {}
    for key, entry in value.items():
        _add(fields, key, entry, known)
    if not fields:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return fields


def _line_fields(body: str, known: Mapping[str, str], first: str | None) -> dict[str, object]:
    """Read ``key: value`` lines. Only a long answer goes on over several lines."""
    fields: dict[str, object] = {}
    last = ""
    for line in (line.strip() for line in body.split("\n")):
        key, colon, value = line.partition(":")
        if not line:
            continue
        if colon and (field := _field_of(key, known)) is not None:
            _add(fields, key, _unquoted(value.strip().removeprefix("**").strip()), known)
            last = field
        elif not fields and first is not None:
            fields[first] = _unquoted(line)
            last = first
        elif last == "long_answer":
            fields[last] = f"{fields[last]} {line}"
        else:
            raise CannotReadError(Unread.STRAY_TEXT if fields else Unread.NOT_JSON_OR_FIELDS)
    if not fields:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return fields


def _field_of(key: str, known: Mapping[str, str]) -> str | None:
    plain = _NUMBERED.sub("", key.strip(" *#_-")).strip(" *_")
    return known.get(plain.casefold().replace(" ", "_"))


def _add(fields: dict[str, object], key: str, value: object, known: Mapping[str, str]) -> None:
    field = _field_of(key, known)
    if field is None:
        return
    if field in fields:
        raise CannotReadError(Unread.REPEATED_KEYS)
    fields[field] = value


def _unquoted(text: str) -> str:
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        return text[1:-1]
    return text


def _depth(body: str) -> int:
    """Return how deep brackets nest outside of strings, without recursion."""
    depth = deepest = 0
    in_string = escaped = False
    for char in body:
        if escaped:
            escaped = False
        elif in_string:
            escaped = char == "\\"
            in_string = char != '"'
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Repeated
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
