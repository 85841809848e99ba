"""The retry law of an endpoint: what an HTTP answer means for the request and for all others."""

from __future__ import annotations

import email.utils
import math
from enum import StrEnum

# Codes of a 429 that no waiting cures; the code may be in `error.code` or in `error.type`
# (OpenAI's error reference; `billing_hard_limit_reached` is the older name of a spent budget).
MONEY_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
CREDENTIALS_CODES = frozenset({"invalid_api_key", "model_not_found"})
# What servers without structured outputs name when they reject a request for its schema.
_SCHEMA_WORDS = ("response_format", "json_schema", "structured output")
FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})


class Meaning(StrEnum):
    """What an error answer asks of us."""

    CREDENTIALS = "credentials"  # every request would get it: stop
    MONEY = "money"  # the same, until somebody pays
    REDIRECT = "redirect"  # the prompt would go to another host: stop
    AGAIN = "again"  # may pass: wait and repeat
    FILTERED = "content_filter"  # this request fails for good
    REJECTED = "rejected"  # the same, for any other reason


class BadBody(Exception):
    """Status 200 with a body that is no chat completion."""


def classify(status: int, *codes: str | None) -> Meaning:
    """Return the meaning of an HTTP error status with the server's error code and type."""
    if status == 402 or not MONEY_CODES.isdisjoint(codes):
        return Meaning.MONEY
    if status in (401, 403, 404) or not CREDENTIALS_CODES.isdisjoint(codes):
        return Meaning.CREDENTIALS
    if 300 <= status < 400:
        return Meaning.REDIRECT
    if status in (408, 409, 429) or status >= 500:
        return Meaning.AGAIN
    return Meaning.REJECTED if FILTER_CODES.isdisjoint(codes) else Meaning.FILTERED


def retry_after_s(value: str | None, date: str | None) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3), or None.

    A date counts from the answer's own Date header: the clock here may be wrong. Nonsense is None.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = _timestamp(value), _timestamp(date)
        if until is None or now is None:
            return None
        seconds = max(0.0, until - now)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def backoff_s(attempt: int, *, first_s: float, cap_s: float, draw: float) -> float:
    """Return the wait after failed attempt 1, 2, ...: full jitter over a doubling range.

    The law is Brooker's "Exponential Backoff And Jitter" (AWS, 2015); ``draw`` is uniform in [0,
    1).
    """
    return draw * min(cap_s, first_s * 2.0 ** min(attempt - 1, 60))


def blames_schema(message: str) -> bool:
    """True if a server's words about a rejected request name the schema it was sent."""
    lowered = message.lower()
    return any(word in lowered for word in _SCHEMA_WORDS)


def _timestamp(value: str | None) -> float | None:
    try:
        return None if value is None else email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
