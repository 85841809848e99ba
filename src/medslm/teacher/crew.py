"""Worker threads that carry bytes, as many as there is work for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

W = TypeVar("W")


class Crew(Generic[W]):
    """Does ``work`` on what is put in, at once, in a thread of its own.

    The threads are daemons: a second Ctrl-C ends the process without waiting for an answer.
    """

    def __init__(self, work: Callable[[W], None]) -> None:
        self._work = work
        self._waiting: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Crew[W]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for _thread in self._threads:
            self._waiting.put(None)
        if kind is None:
            for thread in self._threads:
                thread.join()

    def put(self, item: W) -> None:
        """Let a free thread do this; a new one if none is free."""
        with self._lock:
            self._busy += 1
            more = self._busy > len(self._threads)
        self._waiting.put(item)
        if more:
            thread = threading.Thread(target=self._serve, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._work(item)
            with self._lock:
                self._busy -= 1
