"""When the next request may leave: limits per minute, concurrency, the server's own word."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from medslm.teacher.minute import JITTER_S, Minute, Sent
from medslm.teacher.quota import Quota
from medslm.teacher.refusals import Gate, Width

__all__ = ["Pacer", "Sent"]

_FIRST_WIDTH = 8
# At an unknown limit as many run into a refusal as leave before the first is heard: so many, or one
# in so many of what the last minute took.
_AT_ONCE = 2
_SHARE = 128
# By so much a server's minute may be ahead of ours; within it nothing can be tried.
_SOON_S = 3.0


class Pacer:
    """Tells the one thread that sends when the next request may leave.

    What is known is kept: in no 60 s do more than ``rpm`` requests or ``tpm`` tokens reach the
    server, if each is there within two seconds or answered by then. What is not known is felt for:
    concurrency starts low and climbs, a refusal stops everybody until a later request got through,
    and the limit that showed itself is remembered.
    """

    def __init__(
        self, *, concurrency: int, rpm: int | None, tpm: int | None, clock: Callable[[], float]
    ) -> None:
        self.refusals = 0
        self._rpm = rpm
        self._tpm = tpm
        self._clock = clock
        self._minute = Minute()
        self._width = Width(concurrency, concurrency if rpm is not None else _FIRST_WIDTH)
        self._gate = Gate(self._minute, self._width)
        self._requests = Quota("requests")
        self._tokens = Quota("tokens")
        self._flights: dict[int, Sent] = {}
        self._aloft = 0  # tokens of those
        self._number = 0
        self._through = 0
        self._last_at = -math.inf
        self._wish = -math.inf  # when the server wants to hear of us again
        self._fell_at = 0  # the newest that had been sent when the width last fell
        self._stuck_since: float | None = None

    @property
    def in_flight(self) -> int:
        """The number of requests on their way."""
        return len(self._flights)

    @property
    def width(self) -> int:
        """The number of requests that may be on their way, for now."""
        return 1 if self._gate.closed else int(self._width.value)

    @property
    def at_once(self) -> int:
        """The number of requests that may leave before one listens to what came back."""
        return max(_AT_ONCE, self._minute.count // _SHARE)

    @property
    def stuck_s(self) -> float:
        """The seconds since the first refusal after the last success; 0 if there was none."""
        return 0.0 if self._stuck_since is None else self._clock() - self._stuck_since

    def delay(self, tokens: int) -> float | None:
        """Return the seconds until a request of about this many tokens may leave.

        None: not before one on its way ends. When one does, any earlier word is out of date.
        """
        if len(self._flights) >= int(self._width.value):
            return None
        now = self._clock()
        minute, newest = self._minute, self._number
        minute.leave(now)
        aloft = len(self._flights)
        left = self._requests.wait(
            1, sent=newest, aloft=aloft, counted=minute.count, newest=newest, now=now
        )
        left_tokens = self._tokens.wait(
            tokens,
            sent=self._through,
            aloft=self._aloft,
            counted=minute.weight,
            newest=newest,
            now=now,
        )
        if left is None or left_tokens is None:
            return None
        last = self._flights[next(reversed(self._flights))] if self._flights else None
        until = max(self._wish, self._gate.until(now, last), self._lessons_until(tokens, now))
        return max(0.0, until - now, left, left_tokens)

    def sent(self, tokens: int) -> Sent:
        """Note that a request leaves now; hand the result back when it ends."""
        self._number += 1
        self._aloft += tokens
        self._through += tokens
        self._last_at = self._clock()
        lesson = self._gate.lesson
        if lesson.per_minute is not None and self._minute.count >= lesson.per_minute:
            lesson.trial = self._number
        sent = self._minute.add(
            number=self._number, at=self._last_at, tokens=tokens, through=self._through
        )
        self._flights[sent.number] = sent
        self._gate.sent(sent)
        return sent

    def succeeded(self, sent: Sent, tokens_used: int | None, headers: Mapping[str, str]) -> None:
        """Note an answer, and what it really took of the tokens if the server told."""
        now = self._land(sent, headers)
        if tokens_used is not None and tokens_used >= 0:
            self._minute.weigh(sent, counts=1, weighs=tokens_used)
        self._stuck_since = None
        self._gate.accepted(sent, now, newest=self._number)
        self._width.grow()

    def refused(self, sent: Sent, retry_after_s: float | None, headers: Mapping[str, str]) -> None:
        """Note a refusal because of the rate (429), and the wait that the server asked for."""
        now = self._land(sent, headers)
        self.refusals += 1
        if self._stuck_since is None:
            self._stuck_since = now
        # Where the limit is known, refused requests may count against it; their tokens never do.
        self._minute.weigh(sent, counts=0 if self._rpm is None else 1, weighs=0)
        asked_s = retry_after_s
        if asked_s is not None and not 0 <= asked_s < math.inf:
            asked_s = None
        if asked_s is not None:
            self._wish = max(self._wish, now + asked_s)
        self._gate.refused(
            sent, now, asked_s=asked_s, newest=self._number, in_flight=len(self._flights)
        )

    def failed(self, sent: Sent, headers: Mapping[str, str]) -> None:
        """Note an error that is no matter of the rate, or that no answer came."""
        self._land(sent, headers)
        if sent.number > self._fell_at:  # once per round trip
            self._fell_at = self._number
            self._width.shrink(0.75)

    @property
    def _on_trial(self) -> bool:
        return self._gate.lesson.trial in self._flights

    def _land(self, sent: Sent, headers: Mapping[str, str]) -> float:
        now = self._clock()
        del self._flights[sent.number]
        self._aloft -= sent.tokens
        self._minute.land(sent, now)
        known = self._requests.read(
            headers,
            number=sent.number,
            newest=self._number,
            seen=max(sent.before, min(sent.number, self._number - len(self._flights))),
            now=now,
        )
        known |= self._tokens.read(
            headers,
            number=sent.number,
            newest=self._number,
            seen=max(sent.before_tokens, min(sent.through, self._through - self._aloft)),
            now=now,
        )
        if known:
            self._width.jump()
        return now

    def _lessons_until(self, tokens: int, now: float) -> float:
        """Return when the limits per minute allow it, the given ones and the learned one."""
        lesson = self._gate.lesson
        lesson.loosen(now)
        count = weight = 0
        if self._rpm is not None:
            count = self._minute.count + 1 - self._rpm
        if self._tpm is not None:
            weight = self._minute.weight + min(tokens, self._tpm) - self._tpm
        until = self._minute.until(count, weight)
        if lesson.per_minute is not None:
            learned = self._minute.until(self._minute.count + 1 - lesson.per_minute, 0)
            if learned > now + _SOON_S and not lesson.confirmed and not self._on_trial:
                # One may go beyond it, when those before have surely arrived.
                learned = self._last_at + JITTER_S
            until = max(until, learned)
        return until if lesson.pace_s is None else max(until, self._last_at + lesson.pace_s)
