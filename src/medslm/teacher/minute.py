"""What was sent, and what of it still counts against limits per minute."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

MINUTE_S = 60.0
# A request counts against a server's minute from its arrival, which nobody tells us: at the latest
# it is answered by then, and nearly always two seconds are enough.
_WAY_S = 2.0
JITTER_S = 0.25  # one that is sent so much later does not arrive earlier
_SKEW_S = 0.1  # the server's clock and ours need not run alike


@dataclass(slots=True, eq=False)
class Sent:
    """A request on its way, to be handed back with how it ended.

    ``through`` is all tokens sent up to and with it; ``before`` and ``before_tokens`` are the
    requests and tokens that surely arrived earlier. ``counts`` and ``weighs`` are what it takes of a
    minute's requests and tokens until ``leaves``; ``refused`` is None until it is known.
    """

    number: int
    at: float
    tokens: int
    through: int
    before: int
    before_tokens: int
    counts: int
    weighs: int
    leaves: float
    refused: bool | None


class Minute:
    """Everything that may still count in a server's last minute, oldest first."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0
        self._sent: deque[Sent] = deque()
        self._newest: deque[Sent] = deque()
        self._before = (0, 0)

    def add(self, *, number: int, at: float, tokens: int, through: int) -> Sent:
        """Count a request that leaves now."""
        leaves = at + _WAY_S + MINUTE_S + _SKEW_S
        while self._newest and self._newest[0].at <= at - JITTER_S:
            earlier = self._newest.popleft()
            self._before = (earlier.number, earlier.through)
        sent = Sent(number, at, tokens, through, *self._before, 1, tokens, leaves, None)
        self._newest.append(sent)
        self._sent.append(sent)
        self.count += 1
        self.weight += tokens
        return sent

    def land(self, sent: Sent, now: float) -> None:
        """Let a request's minute run from now at the latest: it has arrived."""
        sent.leaves = min(sent.leaves, now + MINUTE_S + _SKEW_S)

    def weigh(self, sent: Sent, *, counts: int, weighs: int) -> None:
        """Change what a request takes, unless its minute is over."""
        if sent.leaves > -math.inf:
            self.count += counts - sent.counts
            self.weight += weighs - sent.weighs
            sent.counts, sent.weighs = counts, weighs

    def leave(self, now: float) -> None:
        """Forget every request whose minute is over, or that takes nothing."""
        waiting = self._sent
        while waiting and (waiting[0].leaves <= now or not waiting[0].counts + waiting[0].weighs):
            self.weigh(waiting[0], counts=0, weighs=0)
            waiting.popleft().leaves = -math.inf

    def until(self, count: int, weight: int) -> float:
        """Return when so many requests and tokens will have left; the past if none need to."""
        until = -math.inf
        for sent in self._sent:
            if count <= 0 and weight <= 0:
                break
            until = max(until, sent.leaves)
            count -= sent.counts
            weight -= sent.weighs
        return until

    def next_at(self) -> float:
        """Return when the oldest leaves; never if there is none."""
        return self._sent[0].leaves if self._sent else math.inf
