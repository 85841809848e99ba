"""Servers with rate limits on a virtual clock, and a job that a Pacer drives against them."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from medslm.teacher.limits import Pacer, Sent

RPM = 100


class Server(Protocol):
    """Decides on requests in the order in which they arrive."""

    def take(self, at: float) -> bool:
        """Return whether it accepts."""
        ...

    def wait_s(self, at: float) -> float:
        """Return the right Retry-After."""
        ...

    def left(self, at: float) -> tuple[int, float]:
        """Return what its headers say: what is left, and the seconds until the reset."""
        ...


class Sliding:
    """At most so many in the last minute."""

    def __init__(self, limit: int = RPM) -> None:
        self._limit = limit
        self._taken: deque[float] = deque()

    def take(self, at: float) -> bool:
        while self._taken and self._taken[0] <= at - 60:
            self._taken.popleft()
        if len(self._taken) >= self._limit:
            return False
        self._taken.append(at)
        return True

    def wait_s(self, at: float) -> float:
        return self._taken[0] + 60 - at

    def left(self, at: float) -> tuple[int, float]:
        return self._limit - len(self._taken), self.wait_s(at)


class Fixed:
    """At most so many in every minute, the first of which the first request begins."""

    def __init__(self, limit: int = RPM) -> None:
        self._limit = limit
        self._ends = -math.inf
        self._count = 0

    def take(self, at: float) -> bool:
        if at >= self._ends:
            self._ends, self._count = at + 60, 0
        self._count += 1
        return self._count <= self._limit

    def wait_s(self, at: float) -> float:
        return self._ends - at

    def left(self, at: float) -> tuple[int, float]:
        return max(0, self._limit - self._count), self.wait_s(at)


class Bucket:
    """So many at once, and one more whenever a minute's share of a drop has come."""

    def __init__(self, per_minute: int = RPM, holds: int = RPM) -> None:
        self._rate = per_minute / 60
        self._holds = holds
        self._level = float(holds)
        self._at = 0.0

    def take(self, at: float) -> bool:
        self._level = min(self._holds, self._level + (at - self._at) * self._rate)
        self._at = at
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def wait_s(self, _at: float) -> float:
        return (1 - self._level) / self._rate

    def left(self, _at: float) -> tuple[int, float]:
        return int(self._level), (self._holds - self._level) / self._rate


class Free:
    """Accepts everything, except by chance and while it is down."""

    def __init__(
        self, share: float = 0.0, seed: int = 0, down: tuple[float, float] = (0, 0)
    ) -> None:
        self._share = share
        self._random = random.Random(seed)
        self._down = down

    def take(self, at: float) -> bool:
        begins, ends = self._down
        return not begins <= at < ends and self._random.random() >= self._share

    def wait_s(self, _at: float) -> float:
        return 1.0

    def left(self, at: float) -> tuple[int, float]:
        raise NotImplementedError


class Latency(NamedTuple):
    """Uniform seconds for a request and its answer; the way there takes a share of that."""

    least: float
    most: float
    way: float = 0.05


Told = Literal["nothing", "wrong", "right", "headers"]


@dataclass
class Job:
    """So many requests, repeated until each was accepted once."""

    server: Server
    requests: int
    latency: Latency
    told: Told = "nothing"
    seed: int = 0
    concurrency: int = 64
    rpm: int | None = None
    slow_refusals: bool = False
    now: float = 0.0
    done_at: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    widths: list[tuple[float, int]] = field(default_factory=list)
    in_flight_at_limit: int = 0

    def run(self) -> Job:
        rng = random.Random(self.seed)
        self.pacer = Pacer(
            concurrency=self.concurrency, rpm=self.rpm, tpm=None, clock=lambda: self.now
        )
        number = itertools.count()
        events: list[tuple[float, int, Callable[[], None]]] = []

        def later(seconds: float, what: Callable[[], None]) -> None:
            heapq.heappush(events, (self.now + seconds, next(number), what))

        todo = self.requests
        while len(self.done_at) < self.requests:
            flying = self.pacer.in_flight
            delay = self.pacer.delay(10) if flying + len(self.done_at) < todo else None
            if delay == 0:
                self._send(rng.uniform(*self.latency[:2]), later)
                continue
            next_at = events[0][0] if events else math.inf
            self.now = next_at if delay is None else min(next_at, self.now + delay)
            assert self.now < 1e6, "the job is stuck"
            while events and events[0][0] <= self.now:
                heapq.heappop(events)[2]()
            self.widths.append((self.now, self.pacer.width))
        return self

    def _send(self, latency: float, later: Callable[[float, Callable[[], None]], None]) -> None:
        sent = self.pacer.sent(10)
        way = latency * self.latency.way

        def arrive() -> None:
            self.arrivals.append(self.now)
            taken = self.server.take(self.now)
            headers = {}
            if self.told == "headers":
                left, reset_s = self.server.left(self.now)
                headers = {
                    "x-ratelimit-remaining-requests": str(left),
                    "x-ratelimit-reset-requests": f"{reset_s:.3f}s",
                }
            back = latency - way
            if taken:
                later(back, lambda: self._succeed(sent, headers))
                return
            wait_s = {"nothing": None, "wrong": 1.0}.get(self.told, self.server.wait_s(self.now))
            if not self.slow_refusals:
                back = min(back, 0.1)
            later(back, lambda: self._refuse(sent, wait_s, headers))

        later(way, arrive)

    def _succeed(self, sent: Sent, headers: dict[str, str]) -> None:
        self.pacer.succeeded(sent, None, headers)
        self.done_at.append(self.now)

    def _refuse(self, sent: Sent, wait_s: float | None, headers: dict[str, str]) -> None:
        if not self.refused_at:
            self.in_flight_at_limit = self.pacer.in_flight
        self.pacer.refused(sent, wait_s, headers)
        self.refused_at.append(self.now)


def most_in_a_minute(arrivals: list[float]) -> int:
    """Return the most that arrived in any 60 seconds, their beginning included, their end not."""
    most, first = 0, 0
    times = sorted(arrivals)
    for last, at in enumerate(times):
        while at - times[first] >= 60:
            first += 1
        most = max(most, last - first + 1)
    return most
