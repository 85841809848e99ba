"""What the bodies received for a request mean: a reply, another try, or the server's own error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from medslm.teacher.completion import Completion, ErrorBody, read_completion
from medslm.teacher.replies import Body, Reply
from medslm.teacher.requests import Request
from medslm.teacher.retry import BadBody

# An unreadable body may be a hiccup; three for one request are how this server answers it.
_BAD_BODIES = 3
_LENGTH = "length"


class Bad(NamedTuple):
    """The last body is no chat completion; the request may be sent again."""

    reason: str


class Longer(NamedTuple):
    """The last reply was cut; the request may be sent once more with so many tokens."""

    max_tokens: int


def read(request: Request, bodies: Sequence[Body]) -> Reply | Bad | Longer:
    """Read the last of a request's bodies in the light of the ones before, oldest first.

    The same bodies always mean the same, so a run that was killed goes on as if it had not been.
    Raises ErrorBody for an error with status 200: the retry law decides on those.
    """
    last = bodies[-1]
    try:
        found = read_completion(last.text)
    except BadBody as exc:
        if sum(1 for body in bodies if is_bad(body)) < _BAD_BODIES:
            return Bad(str(exc))
        return _reply(request, last, Completion(None, "invalid", None, None))
    if found.finish_reason == _LENGTH and (tokens := limit(request, bodies)) is not None:
        before = limit(request, bodies[:-1])
        if before is not None and tokens > before:
            return Longer(tokens)
    return _reply(request, last, found)


def limit(request: Request, bodies: Sequence[Body]) -> int | None:
    """Return the tokens a reply may have now: twice as many once a reply was cut, never more."""
    tokens = request.sampling.max_tokens
    if tokens is not None and any(_was_cut(body) for body in bodies):
        return 2 * tokens
    return tokens


def is_bad(body: Body) -> bool:
    """True if a body is no chat completion; an error object counts as a server's answer."""
    try:
        read_completion(body.text)
    except BadBody:
        return True
    except ErrorBody:
        return False
    return False


def _was_cut(body: Body) -> bool:
    try:
        return read_completion(body.text).finish_reason == _LENGTH
    except (BadBody, ErrorBody):
        return False


def _reply(request: Request, body: Body, found: Completion) -> Reply:
    return Reply(
        key=request.key,
        content=found.content,
        finish_reason=found.finish_reason,
        usage=found.usage,
        served_model=request.model if found.model is None else found.model,
        created=body.created,
        structured=body.structured,
    )
