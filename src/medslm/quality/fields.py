"""Find the fields of a reply: a JSON object, one fenced block, or ``key: value`` lines."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, NoReturn

MAX_DEPTH = 20  # a reply needs one level; Python's own limit would depend on the caller's stack

_FIELD_OF = {
    "question": "question",
    "answer": "answer",
    "long_answer": "long_answer",
    "reason": "long_answer",
    "conclusion": "long_answer",
}
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


class CannotReadError(Exception):
    """Ends the reading of one reply; ``parse`` turns it into an unreadable one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Repeated(ValueError):
    """A JSON object names a key twice."""


def find_fields(content: str, *, bare_question: bool) -> dict[str, object]:
    """Return what the reply gives for question, answer and long_answer (also reason, conclusion).

    Keys count in any case, other keys are ignored. ``bare_question`` says that the prompt ended in
    "Question:", so that a first line without a key is the question. Raises CannotReadError.
    """
    body = _unfenced(content)
    if body.startswith(("{", "[")):
        return _json_fields(body)
    return _line_fields(body, bare_question=bare_question)


def _unfenced(content: str) -> str:
    """Return what stands between one pair of code fences, whatever is said around it."""
    lines = content.split("\n")
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    if not fences:
        return content
    if len(fences) != 2:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return "\n".join(lines[fences[0] + 1 : fences[1]]).strip()


def _json_fields(body: str) -> dict[str, object]:
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
        _add(fields, key, entry)
    if not fields:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return fields


def _line_fields(body: str, *, bare_question: bool) -> dict[str, object]:
    """Read ``key: value`` lines. Only a long answer goes on over several lines."""
    fields: dict[str, object] = {}
    last = ""
    for line in (line.strip() for line in body.split("\n")):
        key, colon, value = line.partition(":")
        if not line:
            continue
        if colon and (field := _field_of(key)) is not None:
            _add(fields, key, _unquoted(value.strip().removeprefix("**").strip()))
            last = field
        elif not fields and bare_question:
            fields["question"] = _unquoted(line)
            last = "question"
        elif last == "long_answer":
            fields[last] = f"{fields[last]} {line}"
        else:
            raise CannotReadError(Unread.STRAY_TEXT if fields else Unread.NOT_JSON_OR_FIELDS)
    if not fields:
        raise CannotReadError(Unread.NOT_JSON_OR_FIELDS)
    return fields


def _field_of(key: str) -> str | None:
    return _FIELD_OF.get(key.strip(" *#_-").casefold().replace(" ", "_"))


def _add(fields: dict[str, object], key: str, value: object) -> None:
    field = _field_of(key)
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
