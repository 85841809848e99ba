"""One line now and then from work that takes long: how much is done, how fast, how long still."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

EVERY_S = 15.0


class Progress:
    """Counts ``unit`` up to ``total`` and logs at most every 15 s; short work stays silent."""

    def __init__(
        self, what: str, total: int, unit: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.clock = clock
        self.done = 0
        self.started = self.said = clock()

    def add(self, count: int) -> None:
        """Count ``count`` more, and say so if it is time."""
        self.done += count
        now = self.clock()
        if now - self.said < EVERY_S:
            return
        self.said = now
        rate = self.done / (now - self.started)
        left = (self.total - self.done) / rate
        line = "%s: %d of %d %s, %.2f/s, about %.0f s left"
        log.info(line, self.what, self.done, self.total, self.unit, rate, left)
