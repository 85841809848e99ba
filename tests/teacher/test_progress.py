from __future__ import annotations

import io
import logging
import os
import pty
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.progress import Progress, duration
from medslm.teacher.replies import Reply

CLEAR = "\r\x1b[K"


def reply(reason: str = "stop", tokens: int | None = 100) -> Reply:
    usage = None if tokens is None else {"prompt_tokens": 7, "completion_tokens": tokens}
    return Reply("0" * 64, "text", reason, usage, "m", 0, True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real pseudo-terminal: what is written to `stream` comes out of `read`."""

    _END = "\x06"

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w")

    def read(self) -> str:
        """Return what was written since the last time.

        The kernel hands it over some time later, so an end is written behind it and waited for.
        """
        self.stream.write(self._END)
        self.stream.flush()
        seen = ""
        while not seen.endswith(self._END):
            seen += os.read(self._master, 1 << 16).decode()
        return seen.removesuffix(self._END).replace("\r\n", "\n")

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def plain(clock, lines) -> Progress:
    return Progress(100, reused=0, clock=clock, stream=io.StringIO(), log=lines.append)


@pytest.fixture
def drawn(clock, terminal, lines) -> Iterator[Progress]:
    progress = Progress(100, reused=0, clock=clock, stream=terminal.stream, log=lines.append)
    yield progress
    progress.close()


def test_a_terminal_shows_one_line_that_is_redrawn(clock, terminal, drawn, lines):
    clock.now = 0.25
    drawn.count([reply()] * 5)
    assert terminal.read() == (
        f"{CLEAR}5 of 100 answered, 20.0 requests/s, 2000 tokens/s, about 5 s left"
    )

    clock.now = 0.5
    drawn.count([reply()] * 5)
    assert terminal.read() == (
        f"{CLEAR}10 of 100 answered, 20.0 requests/s, 2000 tokens/s, about 4 s left"
    )
    assert lines == []


def test_a_terminal_is_redrawn_four_times_a_second_at_most(clock, terminal, drawn):
    for _ in range(100):
        clock.now += 0.0625
        drawn.count([reply()])

    assert terminal.read().count(CLEAR) == 25


def test_the_line_is_gone_at_the_end(clock, terminal, drawn):
    clock.now = 1.0
    drawn.count([reply()])
    terminal.read()

    drawn.close()
    assert terminal.read() == CLEAR
    drawn.close()
    assert terminal.read() == ""


def test_nothing_is_cleared_where_nothing_was_drawn(terminal, drawn):
    drawn.count([reply()])
    drawn.close()

    assert terminal.read() == ""


@pytest.mark.parametrize(("columns", "seen"), [("20", "1 of 100 answered, "), ("1", "")])
def test_the_line_is_cut_to_the_terminal(clock, terminal, drawn, monkeypatch, columns, seen):
    monkeypatch.setenv("COLUMNS", columns)
    clock.now = 1.0
    drawn.count([reply()])

    assert terminal.read() == CLEAR + seen
    assert len(seen) < int(columns)


def test_elsewhere_a_plain_line_is_logged_every_half_minute(clock, plain, lines):
    for _ in range(59):
        clock.now += 1.0
        plain.count([reply()])
    plain.close()

    assert lines == ["30 of 100 answered, 1.0 requests/s, 100 tokens/s, about 70 s left"]
    clock.now += 1.0
    plain.count([reply()])
    assert len(lines) == 2


def test_nothing_is_written_to_a_stream_that_is_no_terminal(clock):
    stream = io.StringIO()
    progress = Progress(2, reused=0, clock=clock, stream=stream, log=[].append)
    clock.now = 100.0
    progress.count([reply(), reply()])
    progress.close()

    assert stream.getvalue() == ""


def test_reused_replies_count_as_done_and_not_as_work(clock, lines):
    progress = Progress(100, reused=90, clock=clock, stream=io.StringIO(), log=lines.append)
    clock.now = 30.0
    progress.count([reply()] * 3)

    assert lines == ["93 of 100 answered, 0.1 requests/s, 10 tokens/s, about 70 s left"]


def test_failures_are_counted_by_reason(clock, plain, lines):
    clock.now = 30.0
    plain.count([reply("length"), reply(), reply("content_filter"), reply("length")])

    assert "4 of 100 answered, content_filter 1, length 2, " in lines[0]


def test_a_reply_without_usage_has_no_tokens(clock, plain, lines):
    clock.now = 30.0
    plain.count([reply(tokens=None), reply(tokens=60)])

    assert ", 2 tokens/s, " in lines[0]


def test_money_is_shown_where_it_is_spent(clock, plain, lines):
    plain.spent(12_345_678)
    clock.now = 30.0
    plain.count([reply()])
    plain.spent(None)
    clock.now = 60.0
    plain.count([reply()])

    assert (", $12.3457, " in lines[0], "$" in lines[1]) == (True, False)


def test_rates_are_those_of_the_last_half_minute(clock, plain, lines):
    """Ten minutes without an answer are forgotten with the second answer after them."""
    for _ in range(20):
        clock.now += 0.1
        plain.count([reply()])
    clock.now += 600.0
    plain.count([reply()])
    clock.now += 30.0
    plain.count([reply()] * 10)
    clock.now += 30.0
    plain.count([reply()] * 10)

    assert "about 600 s" not in lines[-1]
    assert lines[-1].startswith("41 of 100 answered, 0.3 requests/s, 33 tokens/s, about 3 min")


def test_a_teacher_slower_than_the_window_has_a_rate(clock, plain, lines):
    for _ in range(3):
        clock.now += 100.0
        plain.count([reply()])

    assert lines[-1].endswith(", 0.0 requests/s, 1 tokens/s, about 2 h 42 min left")


def test_before_anything_is_known_no_rate_is_shown(clock, terminal, drawn):
    clock.now = 0.25
    drawn.count([])

    assert terminal.read() == f"{CLEAR}0 of 100 answered"


def test_replies_at_the_very_start_divide_nothing_by_zero(clock, lines):
    progress = Progress(3, reused=0, clock=clock, stream=io.StringIO(), log=lines.append)
    progress.count([reply()])
    progress._show(-1e9)
    clock.now = 0.0
    progress.count([])

    assert lines == []
    assert progress._text(0.0) == "1 of 3 answered"


def test_more_replies_than_expected_leave_no_time(clock, lines):
    progress = Progress(1, reused=0, clock=clock, stream=io.StringIO(), log=lines.append)
    clock.now = 30.0
    progress.count([reply(), reply()])

    assert lines[0].endswith("about 0 s left")


def test_a_reason_cannot_move_the_cursor(clock, terminal, drawn):
    clock.now = 1.0
    drawn.count([reply("\x1b[2J\r\nstop")])

    shown = terminal.read()
    assert shown.startswith(CLEAR)
    assert "?[2J??stop 1" in shown
    assert not set(shown[len(CLEAR) :]) & {"\x1b", "\r", "\n"}


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5)), max_size=30))
def test_any_course_of_events_can_be_shown(events):
    clock = Clock()
    lines: list[str] = []
    progress = Progress(20, reused=0, clock=clock, stream=io.StringIO(), log=lines.append)
    for seconds, count in events:
        clock.now += seconds
        progress.count([reply()] * count)

    assert progress._text(clock.now).startswith(f"{sum(n for _, n in events)} of 20 answered")
    assert len(lines) <= sum(seconds for seconds, _ in events) / 30


# Log lines while the line stands


@pytest.fixture
def logger(terminal: Terminal) -> Iterator[logging.Logger]:
    """The root logger with a handler on the terminal, as a stage sets it up."""
    root = logging.getLogger()
    handler = logging.StreamHandler(terminal.stream)
    root.addHandler(handler)
    yield logging.getLogger("medslm.test")
    root.removeHandler(handler)


def test_a_log_line_appears_above_the_line(clock, terminal, logger):
    progress = Progress(100, reused=0, clock=clock, stream=terminal.stream, log=[].append)
    clock.now = 0.25
    progress.count([reply()])
    line = "1 of 100 answered, 4.0 requests/s, 400 tokens/s, about 25 s left"
    assert terminal.read() == CLEAR + line

    logger.warning("PMID 1: odd")

    assert terminal.read() == f"{CLEAR}PMID 1: odd\n{line}"
    progress.close()
    terminal.read()
    logger.warning("PMID 2: odd")
    assert terminal.read() == "PMID 2: odd\n"


def test_without_that_a_log_line_would_be_torn(clock, terminal, logger, monkeypatch):
    """The control: a handler that joins later knows nothing of the line."""
    progress = Progress(100, reused=0, clock=clock, stream=terminal.stream, log=[].append)
    late = logging.StreamHandler(terminal.stream)
    monkeypatch.setattr(logger, "handlers", [late])
    monkeypatch.setattr(logger, "propagate", False)
    clock.now = 0.25
    progress.count([reply()])

    logger.warning("PMID 1: odd")

    assert terminal.read().endswith("leftPMID 1: odd\n")
    progress.close()


def test_before_the_first_line_a_log_line_is_written_as_it_is(terminal, logger, clock):
    progress = Progress(100, reused=0, clock=clock, stream=terminal.stream, log=[].append)

    logger.warning("begins")

    assert terminal.read() == "begins\n"
    progress.close()
    assert terminal.read() == ""


def test_handlers_of_other_streams_are_left_alone(terminal, clock, tmp_path):
    elsewhere = io.StringIO()
    file = logging.FileHandler(tmp_path / "log")
    handlers: list[logging.Handler] = [
        logging.StreamHandler(elsewhere),
        file,
        logging.NullHandler(),
    ]
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    progress = Progress(100, reused=0, clock=clock, stream=terminal.stream, log=[].append)
    clock.now = 0.25
    progress.count([reply()])
    terminal.read()

    logging.getLogger("medslm.test").warning("odd")

    assert (elsewhere.getvalue(), terminal.read()) == ("odd\n", "")
    progress.close()
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.6, "1 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (11_100, "3 h 5 min"),
        (7199, "2 h 0 min"),
    ],
)
def test_a_duration_is_said_as_a_person_says_it(seconds, said):
    assert duration(seconds) == said
