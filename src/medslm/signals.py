"""A request to stop, held back until what is paid for is on the disk."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """Whether somebody asked to stop; ``signum`` is the first signal that did, 0 before."""

    def __init__(self) -> None:
        self.signum = 0


@contextlib.contextmanager
def deferred(wake: Callable[[], None]) -> Iterator[Stopping]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a note; the second one interrupts at once.

    ``wake`` is called from the handler, so it may only do what a handler may. Outside the main
    thread, where Python allows no handlers, nothing changes.
    """
    stopping = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def handle(signum: int, _frame: FrameType | None) -> None:
        if stopping.signum:
            raise KeyboardInterrupt
        stopping.signum = signum
        wake()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
