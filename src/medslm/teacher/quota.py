"""What a server's x-ratelimit headers say is left of a limit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_DAY_S = 86400.0  # no limit that we know of lasts longer; what says so is a date or nonsense
# So much must be used up, and a reset so much later, before the two are compared: clocks and ways
# differ by less.
_FALL = 5
_MOVE_S = 3.0

_COUNT = re.compile(r"([0-9]{1,15})(?:\.[0-9]*)?")
_PARTS = re.compile(r"([0-9]{1,15}(?:\.[0-9]*)?)(ms|d|h|m|s)")
_UNIT_S = {"d": _DAY_S, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Quota:
    """What is left of one limit, of requests or of tokens, while many answers are on their way.

    Answers overtake each other, and what is on its way may or may not be in what they say. So the
    answers of one round trip count at a time, an older one's never, and they are read in the two
    ways that hardly promise too much: the least that was left, less all that is on its way; and
    what was surely there before the newest request that was answered, plus what was left then.
    """

    def __init__(self, unit: str) -> None:
        self._remaining = f"x-ratelimit-remaining-{unit}"
        self._reset = f"x-ratelimit-reset-{unit}"
        self._after = 0  # the round trip: requests after this one
        self._upto = 0  # up to this one
        self._left: int | None = None
        self._newest = 0
        self._bound = 0  # no more than this may ever be sent
        self._said_at = 0.0
        self._reset_at: float | None = None
        self._most = 1
        self._marked_left = 0
        self._marked_reset_at = -math.inf
        self._drip_s: float | None = None

    def read(
        self, headers: Mapping[str, str], *, number: int, newest: int, seen: int, now: float
    ) -> bool:
        """Take the answer to request ``number``, and return whether it says anything.

        ``newest`` is the newest request that was sent; ``seen`` is what was sent up to this one or
        has landed, whichever is less: at least that much the server had counted.
        """
        left = read_count(headers.get(self._remaining))
        if left is None:
            return False
        if number > self._upto:
            self._after, self._upto = self._upto, newest
            self._left = None
        if number > self._newest:
            self._newest = number
            self._bound = seen + left
        if number > self._after and (self._left is None or left <= self._left):
            self._left = left
            self._said_at = now
            self._most = max(self._most, left)
            self._heed_reset(read_seconds(headers.get(self._reset)), left, now)
        return True

    def wait(
        self, need: int, *, sent: int, aloft: int, counted: int, newest: int, now: float
    ) -> float | None:
        """Return the seconds until ``need`` more may go; None if only an answer can tell.

        ``sent`` went so far, ``counted`` of it in the last minute, ``aloft`` is on its way. Where
        nothing is, one request may go when the reset has passed, or at once if none was named.
        """
        if self._left is None:
            return 0.0
        if self._reset_at is not None and now >= self._reset_at:
            self._refill(aloft, counted, newest)
        room = max(self._left - aloft, self._bound - sent) if aloft else self._left
        lacking = min(need, self._most) - room
        if lacking <= 0:
            return 0.0
        if self._reset_at is None:
            return None if aloft else 0.0
        until = self._reset_at
        if self._drip_s is not None:
            until = min(until, self._said_at + lacking * self._drip_s)
        return max(0.0, until - now)

    def _heed_reset(self, reset_s: float | None, left: int, now: float) -> None:
        """Note when all comes back, and learn whether it comes back bit by bit.

        A window's reset stays where it is while it is used up; a bucket's moves away by the same
        time for each one taken out, and so long is the wait for one more.
        """
        if reset_s is None:
            self._reset_at = None
            return
        self._reset_at = now + reset_s
        fall = self._marked_left - left
        if now >= self._marked_reset_at:
            self._marked_left, self._marked_reset_at = left, self._reset_at
        elif fall >= _FALL:
            move_s = self._reset_at - self._marked_reset_at
            self._drip_s = move_s / fall if move_s > _MOVE_S else None

    def _refill(self, aloft: int, counted: int, newest: int) -> None:
        """Guess what is left after a reset, until the answer to a later request tells.

        A window may give back all or only its oldest, a bucket drop by drop, and their headers look
        alike. Each has given back whatever is older than a minute.
        """
        self._left = aloft + max(0, self._most - counted)
        self._bound = 0
        self._after = self._upto = self._newest = newest
        self._reset_at = None


def read_count(value: str | None) -> int | None:
    """Return a header's number of requests or tokens; nonsense is None."""
    match = _COUNT.fullmatch((value or "").strip())
    return None if match is None else int(match[1])


def read_seconds(value: str | None) -> float | None:
    """Return a header's duration ("250ms", "6m0s", "1h2m3.5s", "17" for 17 s) in seconds.

    None for nonsense and for more than a day.
    """
    text = (value or "").strip()
    if _COUNT.fullmatch(text):
        text += "s"
    if not text or _PARTS.sub("", text):
        return None
    total = sum(float(number) * _UNIT_S[unit] for number, unit in _PARTS.findall(text))
    return total if total <= _DAY_S else None
