"""What a refusal does to all others: wait, let one through, go on; and was it chance or a limit."""

from __future__ import annotations

import math
from collections import deque

from medslm.teacher.lessons import Lesson
from medslm.teacher.minute import Minute, Sent

# A refusal adds two to the doubt and an acceptance takes one off: chance that refuses less than a
# third of all requests hardly ever gets far, a limit gets there within some refusals in a row.
_REFUSED, _ACCEPTED = 2, -1
_PERHAPS = 4
_LIKELY = 8
_SURE = 16
_MOST_DOUBT = 24
# A refusal comes at once and an answer takes its time. So what is not refused for twice as long as
# refusals take is accepted.
_LEAST_PATIENCE_S = 0.25
_SHORT_PAUSE_S = 0.1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 16.0
_SKIPPED = 3
_NEAR_S = 3.0  # a window opens when its oldest request is a minute old, give or take its way
_FEW = 3  # with fewer on their way it is no limit on concurrency that refuses


class Width:
    """How many may be on their way: slow start, additive increase, multiplicative decrease."""

    def __init__(self, cap: int, start: int) -> None:
        self.value = float(min(cap, start))
        self._cap = cap
        self._quick_to = math.inf

    def grow(self) -> None:
        """Climb with a success: by one at first, by one per round trip after a fall."""
        step = 1.0 if self.value < self._quick_to else 1 / self.value
        self.value = min(self._cap, self.value + step)

    def shrink(self, factor: float) -> None:
        """Fall, and climb slowly from there."""
        self.value = self._quick_to = max(1.0, self.value * factor)

    def restart(self) -> None:
        """Climb again from one, quickly up to half of what it was."""
        self._quick_to = max(1.0, self.value / 2)
        self.value = 1.0

    def jump(self) -> None:
        """Go to the cap where the limit is known, unless something fell before."""
        if self._quick_to == math.inf:
            self.value = float(self._cap)


class Verdict:
    """Judges in the order of sending: at its limit a server refuses all that comes, chance not."""

    def __init__(self) -> None:
        self._doubt = 0
        self._refusal_s = 0.0
        self._open: deque[Sent] = deque()

    @property
    def patience_s(self) -> float:
        """The seconds after which a request that was not refused counts as accepted."""
        return max(_LEAST_PATIENCE_S, 2 * self._refusal_s)

    def sent(self, sent: Sent) -> None:
        """Wait for what becomes of a request."""
        self._judge(sent.at, 0)
        self._open.append(sent)

    def refused(self, sent: Sent, now: float) -> None:
        """Note how long a refusal takes: as long as the slowest of late."""
        self._refusal_s = max(now - sent.at, 0.9 * self._refusal_s)

    def doubt(self, now: float, accepted: int) -> int:
        """Return how much the refusals up to the accepted request speak for a limit."""
        self._judge(now, accepted)
        return self._doubt

    def _judge(self, now: float, accepted: int) -> None:
        waiting, patience_s = self._open, self.patience_s
        while waiting and (
            waiting[0].refused is not None
            or waiting[0].number <= accepted
            or now - waiting[0].at >= patience_s
        ):
            step = _REFUSED if waiting.popleft().refused else _ACCEPTED
            self._doubt = min(_MOST_DOUBT, max(0, self._doubt + step))


class Gate:
    """Holds everybody back after a refusal until one later request was accepted."""

    def __init__(self, minute: Minute, width: Width) -> None:
        self.closed = False
        self.lesson = Lesson()
        self._minute = minute
        self._width = width
        self._verdict = Verdict()
        self._good = 0  # the newest request that succeeded
        self._refused = 0  # the newest that was refused
        self._heard = 0  # the newest that had been sent when a refusal was news
        self._heard_at = 0.0
        self._pauses = 0
        self._pause_until = -math.inf
        self._closed_at = 0.0
        self._taken = 0  # what the server accepted in the minute before it refused
        self._window_at = math.inf  # when the oldest of those is a minute old
        self._told = False  # the server itself asked to wait until about then

    def sent(self, sent: Sent) -> None:
        """Note a request that leaves now."""
        self._verdict.sent(sent)

    def until(self, now: float, newest: Sent | None) -> float:
        """Return when the next one may pass; ``newest`` is the newest on its way."""
        if not self.closed:
            return -math.inf
        if newest is None or newest.number < self._refused:
            return self._pause_until
        patient = newest.at + self._verdict.patience_s
        if now < patient:
            return patient
        self._open(newest, now, newest.number)
        return -math.inf

    def accepted(self, sent: Sent, now: float, *, newest: int) -> None:
        """Open if this request was sent after the newest that was refused."""
        sent.refused = False
        self._good = max(self._good, sent.number)
        self.lesson.accepted(sent)
        if self.closed and sent.number < self._refused:
            self._taken += 1
        elif self.closed:
            self._open(sent, now, newest)

    def refused(
        self, sent: Sent, now: float, *, asked_s: float | None, newest: int, in_flight: int
    ) -> None:
        """Close, unless a later request got through meanwhile: then it was chance."""
        sent.refused = True
        self._verdict.refused(sent, now)
        alone = in_flight < _FEW and self._verdict.doubt(now, 0) >= _SURE
        self._minute.leave(now)
        self.lesson.refused(sent, now, newest=newest, count=self._minute.count, alone=alone)
        if sent.number < self._good:
            return
        # The other refusals of one burst are no news.
        news = not self.closed or sent.number > self._heard
        self._refused = max(self._refused, sent.number)
        if not self.closed:
            self._close(now, in_flight)
        if asked_s is not None and now + asked_s >= self._window_at - _NEAR_S:
            self._told = True
        if news:
            self._heard, self._heard_at = newest, now
            self._pauses += 1
        self._pause(now, asked_s)

    def _close(self, now: float, in_flight: int) -> None:
        self.closed = True
        self._closed_at = now
        self._taken = max(0, self._minute.count - in_flight)
        self._window_at = self._minute.next_at()
        self._told = False

    def _pause(self, now: float, asked_s: float | None) -> None:
        """Wait 0.5, 1, 2, ... 16 s for the next probe, but not past the moment a window opens.

        The first wish of the server's is believed; without one, what looks like chance waits less.
        Where a limit refused in spite of a wish, three steps are skipped: its wishes are too short.
        """
        wrong = self._pauses > 1 and asked_s is not None
        skipped = _SKIPPED if wrong and self._verdict.doubt(now, 0) >= _LIKELY else 0
        steps = min(self._pauses - 1 + skipped, 10)
        seconds = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**steps)
        if self._pauses == 1 and asked_s is not None:
            seconds = 0.0
        elif self._pauses == 1 and self._verdict.doubt(now, 0) < _PERHAPS:
            seconds = _SHORT_PAUSE_S
        self._pause_until = self._heard_at + seconds
        if now < self._window_at < self._pause_until + _NEAR_S:
            self._pause_until = self._window_at

    def _open(self, sent: Sent, now: float, newest: int) -> None:
        """Go on, and learn from the request that was accepted first."""
        self.closed = False
        self._pauses = 0
        doubt = self._verdict.doubt(now, sent.number)
        was_long = self._window_at - self._closed_at > 2 * _NEAR_S
        at_window = was_long and sent.at >= self._window_at - _NEAR_S
        if self._taken and at_window and (doubt >= _SURE or self._told):
            self.lesson.learn_window(self._taken, now, newest)
        elif doubt >= _SURE:
            self._width.restart()
        elif doubt >= _LIKELY and sent.number > self._heard:  # a probe, not one under way before
            self._width.shrink(0.5)
