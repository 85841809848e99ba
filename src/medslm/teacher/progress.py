"""What a person sees while a teacher is asked: one line redrawn on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TextIO

from medslm.teacher.replies import STOP, Reply

_WINDOW_S = 30.0
_REDRAW_S = 0.25
_LINE_S = 30.0
_CLEAR = "\r\x1b[K"


class _Mark(NamedTuple):
    at: float
    replies: int
    tokens: int


class Progress:
    """Shows done, failed by reason, rates, dollars and the time left.

    Rates are those of the last half minute, so that they are right again soon after a pause. While
    the line stands on a terminal, log lines to the same terminal appear above it.
    """

    def __init__(
        self,
        total: int,
        *,
        reused: int,
        clock: Callable[[], float],
        stream: TextIO,
        log: Callable[[str], None],
    ) -> None:
        self._total = total
        self._done = reused
        self._clock = clock
        self._log = log
        self._failed: Counter[str] = Counter()
        self._micros: int | None = None
        self._marks = deque([_Mark(clock(), 0, 0)])
        self._shown_at = clock()
        self._line = _Line(stream) if stream.isatty() else None

    def count(self, replies: Sequence[Reply]) -> None:
        """Count replies that are stored."""
        self._done += len(replies)
        self._failed.update(r.finish_reason for r in replies if r.finish_reason != STOP)
        tokens = sum((r.usage or {}).get("completion_tokens", 0) for r in replies)
        now = self._clock()
        self._marks.append(_Mark(now, len(replies), tokens))
        # Two are kept whatever their age: a slow teacher has a rate, too.
        while len(self._marks) > 2 and self._marks[0].at < now - _WINDOW_S:
            self._marks.popleft()
        self._show(now)

    def spent(self, micros: int | None) -> None:
        """Set what was spent so far, in micro-dollars; None where nothing costs anything."""
        self._micros = micros

    def close(self) -> None:
        """Leave the terminal as if nothing had been there."""
        if self._line is not None:
            self._line.close()

    def _show(self, now: float) -> None:
        if now - self._shown_at < (_LINE_S if self._line is None else _REDRAW_S):
            return
        self._shown_at = now
        if self._line is None:
            self._log(self._text(now))
        else:
            self._line.draw(self._text(now))

    def _text(self, now: float) -> str:
        parts = [f"{self._done} of {self._total} answered"]
        parts += [f"{reason} {n}" for reason, n in sorted(self._failed.items())]
        first, *rest = self._marks
        span = now - first.at
        rate = sum(mark.replies for mark in rest) / span if span > 0 else 0.0
        if rate > 0:
            tokens = sum(mark.tokens for mark in rest) / span
            parts += [f"{rate:.1f} requests/s", f"{tokens:.0f} tokens/s"]
        if self._micros is not None:
            parts.append(f"${self._micros / 1e6:.4f}")
        if rate > 0:
            parts.append(f"about {duration(max(0, self._total - self._done) / rate)} left")
        # A reason is the server's word: it must not move the cursor.
        return "".join(c if c.isprintable() else "?" for c in ", ".join(parts))


class _Line:
    """The last line of a terminal. Log handlers that write to it write above the line meanwhile."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._lock = threading.RLock()
        self._handlers: list[logging.StreamHandler[Any]] = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is stream
        ]
        for handler in self._handlers:
            handler.setStream(_Above(self, stream))

    def draw(self, text: str) -> None:
        """Show this text, cut to the terminal's width."""
        with self._lock:
            # A line as wide as the terminal would wrap on some.
            self._text = text[: max(0, shutil.get_terminal_size().columns - 1)]
            self._stream.write(_CLEAR + self._text)
            self._stream.flush()

    def above(self, text: str) -> None:
        """Write whole lines where the line stands, and the line again below them."""
        with self._lock:
            self._stream.write((_CLEAR if self._text else "") + text + self._text)
            self._stream.flush()

    def close(self) -> None:
        """Clear the line and let the handlers write as before."""
        with self._lock:
            for handler in self._handlers:
                handler.setStream(self._stream)
            self._handlers = []
            if self._text:
                self._text = ""
                self._stream.write(_CLEAR)
                self._stream.flush()


class _Above:
    """The part of a stream that a log handler uses; it writes whole lines."""

    def __init__(self, line: _Line, stream: TextIO) -> None:
        self._line = line
        self._stream = stream

    def write(self, text: str) -> None:
        """Write above the line."""
        self._line.above(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return seconds as a person says them: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
