"""A chat completion's JSON body becomes content and a finish reason; nothing is guessed."""

from __future__ import annotations

from typing import Any, NamedTuple

from medslm.files import loads_strict
from medslm.teacher.replies import STOP
from medslm.teacher.retry import BadBody

# Why a server ends a completion (OpenAI API reference, chat.completions); others are not for us.
_FINISHED = frozenset({STOP, "length", "content_filter"})
_COUNTS = ("prompt_tokens", "completion_tokens")
_DETAILS = ("cached_tokens", "cache_write_tokens")  # parts of the prompt with a price of their own


class Completion(NamedTuple):
    """The parts of a chat completion that a reply keeps."""

    content: str | None
    finish_reason: str
    usage: dict[str, int] | None
    model: str | None


class ErrorBody(Exception):
    """Status 200 with an error object inside, as some gateways answer."""

    def __init__(self, code: str | None, kind: str | None, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind


def read_completion(body: str) -> Completion:
    """Read the body of a 200 answer; BadBody if it is none, ErrorBody if it holds an error.

    Bytes that were no UTF-8 stand in ``body`` as lone surrogates.
    """
    try:
        body.encode("utf-8")
        value = loads_strict(body)
    except (ValueError, RecursionError) as exc:
        raise BadBody(f"the body is not JSON ({type(exc).__name__})") from None
    if not isinstance(value, dict):
        raise BadBody("the body is not a JSON object")
    if value.get("error"):
        raise _error(value["error"])
    choice = _first_choice(value)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadBody("choices[0].message is missing")
    content, refusal, reason = (
        message.get("content"),
        message.get("refusal"),
        choice.get("finish_reason"),
    )
    if content is not None and not isinstance(content, str):
        raise BadBody("choices[0].message.content is not text")
    model = value.get("model")
    kept = (read_usage(value.get("usage")), model[:200] if isinstance(model, str) else None)
    if refusal:
        return Completion(content, "refusal", *kept)
    if reason not in _FINISHED:
        raise BadBody("choices[0].finish_reason is not stop, length or content_filter")
    if reason == STOP and content is None:
        raise BadBody("choices[0].message.content is null")
    return Completion(content, reason, *kept)


class Peek(NamedTuple):
    """What money and identity hang on in a body, readable whatever else is wrong with it."""

    usage: dict[str, int] | None
    id: str | None
    is_error: bool


def peek(body: str) -> Peek:
    """Look into any body without judging it; never raises."""
    try:
        value = loads_strict(body)
    except (ValueError, RecursionError):
        return Peek(None, None, False)
    if not isinstance(value, dict):
        return Peek(None, None, False)
    number = value.get("id")
    return Peek(
        usage=read_usage(value.get("usage")),
        id=number if isinstance(number, str) and number else None,
        is_error=bool(value.get("error")),
    )


def read_usage(value: object) -> dict[str, int] | None:
    """Return the token counts that are plain numbers; None if there is none."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    counts = {name: value.get(name) for name in _COUNTS}
    if isinstance(details, dict):
        counts |= {name: details.get(name) for name in _DETAILS}
    usage = {n: c for n, c in counts.items() if type(c) is int and 0 <= c < 2**53}
    return usage or None


def _first_choice(value: dict[str, Any]) -> dict[str, Any]:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadBody("choices is missing or empty")
    return choices[0]


def _error(error: object) -> ErrorBody:
    if not isinstance(error, dict):
        return ErrorBody(None, None, str(error))
    code, kind = error.get("code"), error.get("type")
    return ErrorBody(
        None if code is None else str(code),
        None if kind is None else str(kind),
        str(error.get("message", "")),
    )
