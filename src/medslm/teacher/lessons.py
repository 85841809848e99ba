"""The limit that a server does not tell, learned from what it refused."""

from __future__ import annotations

import math
from collections import deque

from medslm.teacher.minute import MINUTE_S, Sent

_MORE = 1.05
_PACE_TRIAL_S = 10.0
# Refusals of more than a quarter of so many answers: what was learned is not what refuses.
_ANSWERS = 32
_SLOWEST = 8  # times the first pace
_DISTRUST_S = 600.0


class Lesson:
    """The limit that a server does not tell: requests per minute, or seconds between two.

    A lesson may be wrong or out of date: a server that was down for a minute looks like one with a
    limit per minute. So one request tries whether more is accepted, at first and after every clean
    minute, and if it is, twice as much is tried; a pace quickens while nothing is refused. If
    refusals go on in spite of a lesson it is forgotten, and nothing learned for a while.
    """

    def __init__(self) -> None:
        self.per_minute: int | None = None
        self.pace_s: float | None = None
        self.confirmed = False  # by a refusal of what goes beyond it
        self.trial = 0  # the request that goes beyond it
        self._first_pace_s = 0.0
        self._clean_since = -math.inf
        self._trust_at = -math.inf
        self._since = 0  # the newest request that was sent before the lesson
        self._answers: deque[bool] = deque(maxlen=2 * _ANSWERS)  # to later ones: was it a refusal?
        self._empty: Sent | None = None
        self._empty_at = 0.0
        self._accepted = 0  # requests sent since the server had nothing left

    def loosen(self, now: float) -> None:
        """Doubt a window after a clean minute, and quicken a pace after ten clean seconds."""
        clean_s = now - self._clean_since
        if self.pace_s is not None and clean_s >= _PACE_TRIAL_S:
            self._clean_since = now
            self.pace_s /= _MORE
        if clean_s >= MINUTE_S:
            self.confirmed = False

    def accepted(self, sent: Sent) -> None:
        """Count an acceptance."""
        self._answered(sent, refused=False)
        if self._empty is not None and sent.number > self._empty.number:
            self._accepted += 1
        if sent.number == self.trial and self.per_minute is not None and not self.confirmed:
            self.per_minute *= 2

    def refused(self, sent: Sent, now: float, *, newest: int, count: int, alone: bool) -> None:
        """Confirm what is known, or measure a rate.

        ``count`` were sent and not refused in the last minute: no window is larger. A rate is what
        was accepted between two moments when the server had nothing left, which is so if a limit,
        not chance, refused a request that was ``alone``.
        """
        self._answered(sent, refused=True)
        self._clean_since = now
        refusals = sum(self._answers)
        if len(self._answers) >= _ANSWERS and 4 * refusals > len(self._answers):
            self._forget(now)
        if self.per_minute is not None:
            if sent.number > self._since and not self.confirmed:
                self.confirmed = True
                self.per_minute = max(1, min(self.per_minute, count))
            return
        if self._empty is None:
            if alone:
                self._begin(sent, now)
        elif sent.number > self._empty.number:
            elapsed = now - self._empty_at
            if self._accepted and (elapsed <= MINUTE_S or self.pace_s is not None):
                # Something of the next one has gathered by now, so this is a bit too quick at first
                # and mends itself with every refusal.
                self._set_pace(elapsed / (self._accepted + 1), now, newest)
            if not self._accepted or elapsed > MINUTE_S:
                self._empty = None
                if alone or self.pace_s is not None:
                    self._begin(sent, now)

    def learn_window(self, count: int, now: float, newest: int) -> None:
        """Believe that so many are accepted in any minute, unless there is another lesson."""
        if now >= self._trust_at and self.per_minute is None and self.pace_s is None:
            self._learned(newest)
            self.per_minute = count
            self.confirmed = False
            self.trial = 0
            self._empty = None

    def _answered(self, sent: Sent, *, refused: bool) -> None:
        if (self.per_minute is not None or self.pace_s is not None) and sent.number > self._since:
            self._answers.append(refused)

    def _begin(self, sent: Sent, now: float) -> None:
        if now >= self._trust_at:
            self._empty, self._empty_at, self._accepted = sent, now, 0

    def _set_pace(self, pace_s: float, now: float, newest: int) -> None:
        if self.pace_s is None:
            self._learned(newest)
            self._first_pace_s = pace_s
        self.pace_s = pace_s
        if pace_s > _SLOWEST * self._first_pace_s:
            self._forget(now)

    def _learned(self, newest: int) -> None:
        self._since = newest
        self._answers.clear()

    def _forget(self, now: float) -> None:
        self.per_minute = self.pace_s = self._empty = None
        self._answers.clear()
        self._trust_at = now + _DISTRUST_S
