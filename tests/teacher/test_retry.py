from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.retry import Floor, Meaning, Stopped, backoff_s, classify, retry_after_s

NOON = "Sun, 22 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "codes", "meaning"),
    [
        (401, (), Meaning.CREDENTIALS),
        (403, (), Meaning.CREDENTIALS),
        (404, ("model_not_found",), Meaning.CREDENTIALS),
        (402, (), Meaning.MONEY),
        (429, ("insufficient_quota", None), Meaning.MONEY),
        (429, (None, "insufficient_quota"), Meaning.MONEY),
        (429, ("organization_spend_limit_exceeded", None), Meaning.MONEY),
        (429, ("rate_limit_exceeded", "requests"), Meaning.AGAIN),
        (429, (), Meaning.AGAIN),
        (408, (), Meaning.AGAIN),
        (409, (), Meaning.AGAIN),
        (500, (), Meaning.AGAIN),
        (529, (), Meaning.AGAIN),
        (307, (), Meaning.REDIRECT),
        (400, ("content_filter", None), Meaning.FILTERED),
        (400, (), Meaning.REJECTED),
        (422, (), Meaning.REJECTED),
        (418, (), Meaning.REJECTED),
    ],
)
def test_every_status_has_its_meaning(status, codes, meaning):
    assert classify(status, *codes) is meaning


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, None, None),
        ("2", None, 2.0),
        ("0.5", None, 0.5),
        ("-3", None, None),
        ("1e309", None, None),
        ("nan", None, None),
        ("soon", None, None),
        ("Sun, 22 Nov 2026 12:00:07 GMT", NOON, 7.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", NOON, 0.0),
        ("Sun, 22 Nov 2026 12:00:07 GMT", None, None),
        ("Sun, 22 Nov 2026 12:00:07 GMT", "yesterday", None),
    ],
)
def test_retry_after_counts_from_the_servers_own_clock(value, date, seconds):
    assert retry_after_s(value, date) == seconds


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_stays_below_its_cap(attempt, draw):
    assert 0 <= backoff_s(attempt, first_s=0.5, cap_s=30, draw=draw) <= 30


def test_the_backoff_doubles_its_range():
    assert [backoff_s(n, first_s=1, cap_s=5, draw=0.5) for n in (1, 2, 3, 4)] == [0.5, 1, 2, 2.5]


def test_the_floor_keeps_the_latest_of_two_wishes():
    now = [100.0]
    waits: list[float] = []

    class Sign(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            now[0] += timeout or 0
            return False

    floor = Floor(clock=lambda: now[0])
    floor.raise_by(5)
    floor.raise_by(2)

    floor.wait(Sign())

    assert waits == [5.0]


def test_nobody_passes_the_floor_after_a_stop():
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        Floor().wait(stop)
