from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.quota import Quota, read_count, read_seconds


def says(left: object, reset: str | None = None) -> dict[str, str]:
    headers = {"x-ratelimit-remaining-requests": str(left)}
    return headers if reset is None else {**headers, "x-ratelimit-reset-requests": reset}


class Told:
    """A quota whose requests are sent, answered and asked for in plain numbers."""

    def __init__(self) -> None:
        self.quota = Quota("requests")
        self.sent = 0
        self.aloft = 0
        self.counted = 0  # in the last minute

    def send(self, count: int) -> None:
        self.sent += count
        self.aloft += count

    def land(self, number: int, headers: dict[str, str], now: float = 0.0) -> bool:
        self.aloft -= 1
        seen = min(number, self.sent - self.aloft)
        return self.quota.read(headers, number=number, newest=self.sent, seen=seen, now=now)

    def wait(self, now: float = 0.0, need: int = 1) -> float | None:
        return self.quota.wait(
            need,
            sent=self.sent,
            aloft=self.aloft,
            counted=self.counted,
            newest=self.sent,
            now=now,
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("59.0", 59),
        ("9" * 15, 999_999_999_999_999),
        ("9" * 16, None),
        (None, None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("1_000", None),
        ("many", None),
    ],
)
def test_a_count_is_a_plain_number_or_nothing(value, count):
    assert read_count(value) == count


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        (" 17 ", 17.0),
        ("0.5", 0.5),
        ("0s", 0.0),
        ("24h1s", None),
        ("86401", None),
        ("1790000000", None),
        (None, None),
        ("", None),
        ("s", None),
        ("-5s", None),
        ("nan", None),
        ("infs", None),
        ("5 s", None),
        ("2026-11-22T12:00:00Z", None),
    ],
)
def test_a_duration_is_read_in_every_form_that_servers_use(value, seconds):
    assert read_seconds(value) == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=30))
def test_any_header_is_a_bounded_duration_or_nothing(text):
    seconds = read_seconds(text)

    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= 86400)


def test_without_headers_nothing_waits(told):
    told.send(5)

    assert told.land(1, {"x-ratelimit-remaining-tokens": "0"}) is False
    assert told.land(2, says("soon")) is False
    assert told.wait() == 0.0


def test_no_more_are_on_their_way_than_are_left(told):
    told.send(1)

    assert told.land(1, says(3, "60s")) is True

    told.send(2)
    assert told.wait() == 0.0
    told.send(1)
    assert told.wait() == 60.0


def test_what_is_on_its_way_may_not_be_in_the_answer(told):
    """Four were sent, the first says that 5 are left: it cannot know of the other three."""
    told.send(4)
    told.land(1, says(5, "60s"))

    assert told.wait(need=2) == 0.0
    assert told.wait(need=3) == 60.0


def test_an_answer_that_was_overtaken_neither_opens_nor_closes(told):
    told.send(3)
    told.land(2, says(0, "60s"))

    told.land(1, says(9, "60s"))

    assert told.wait() == 60.0


def test_the_answer_to_a_later_request_opens(told):
    told.send(2)
    told.land(2, says(0, "2s"))
    told.send(1)

    told.land(3, says(9, "60s"))

    assert told.wait() == 0.0


def test_the_answer_to_a_request_of_two_round_trips_ago_is_not_heard(told):
    told.send(2)
    told.land(2, says(9, "60s"))
    told.send(1)
    told.land(3, says(9, "60s"))

    assert told.land(1, says(0, "60s")) is True

    assert told.wait() == 0.0


def test_when_all_have_landed_the_least_that_was_left_counts(told):
    """The third overtook the others on the way there: 97 are left and not 97 less two."""
    told.send(3)
    told.land(1, says(98, "60s"))
    told.land(2, says(97, "60s"))
    told.land(3, says(99, "60s"))

    assert told.wait(need=97) == 0.0
    assert told.wait(need=98) == 60.0


def test_an_exhausted_limit_is_waited_for_and_then_what_is_older_than_a_minute_is_back(told):
    told.send(1)
    told.land(1, says(99, "60s"))
    told.send(99)
    for number in range(2, 101):
        told.land(number, says(100 - number, "30s"), now=1.0)
    told.counted = 50

    assert told.wait(now=1.0) == 30.0
    assert told.wait(now=30.5) == 0.5
    assert told.wait(now=31.0, need=49) == 0.0
    told.send(49)
    assert told.wait(now=31.0) is None


def test_after_a_reset_one_goes_even_if_nothing_is_older_than_a_minute(told):
    told.send(1)
    told.land(1, says(9, "3s"))
    told.send(1)
    told.land(2, says(0, "3s"))
    told.counted = 20

    assert told.wait(now=3.0) == 0.0
    told.send(1)
    assert told.wait(now=3.0) is None


def test_after_a_reset_what_is_on_its_way_need_not_be_taken_off(told):
    told.send(8)
    told.land(1, says(10, "6s"))
    told.counted = 8

    assert told.wait(now=0.0, need=4) == 6.0
    assert told.wait(now=6.0, need=2) == 0.0
    assert told.wait(now=6.0, need=3) is None


def test_after_a_reset_answers_to_earlier_requests_are_old(told):
    told.send(2)
    told.land(1, says(60, "60s"))
    assert told.wait(now=60.0) == 0.0

    told.land(2, says(0, "60s"), now=60.5)

    assert told.wait(now=60.5) == 0.0
    told.send(1)
    told.land(3, says(0, "60s"), now=61.0)
    assert told.wait(now=61.0) == 60.0


@pytest.mark.parametrize("reset", [None, "garbage"])
def test_without_a_reset_one_goes_when_nothing_is_on_its_way(told, reset):
    told.send(2)
    told.land(1, says(0, reset))

    assert told.wait() is None
    told.land(2, says(0, reset))
    assert told.wait() == 0.0


def test_a_request_larger_than_the_limit_goes_when_all_is_left(told):
    told.send(1)
    told.land(1, says(10, "60s"))

    assert told.wait(need=1000) == 0.0
    told.send(1)
    assert told.wait(need=1000) == 60.0


def test_a_bucket_is_known_by_a_reset_that_moves_away_as_it_is_emptied(told):
    """From 90 left and 6 s to 50 left and 30 s: one comes back every 0.6 s."""
    told.send(50)
    told.land(10, says(90, "6s"))
    told.land(50, says(50, "30s"))
    told.send(50)
    for number in range(51, 101):
        told.land(number, says(100 - number, f"{number * 0.6}s"))
    told.aloft = 0

    assert told.wait() == pytest.approx(0.6)
    assert told.wait(need=10) == pytest.approx(6.0)


def test_a_window_is_known_by_a_reset_that_stays(told):
    told.send(50)
    told.land(10, says(90, "30s"))
    told.land(50, says(50, "32.9s"), now=0.1)
    told.send(50)
    for number in range(51, 101):
        told.land(number, says(100 - number, "30s"))

    assert told.wait() == 30.0


def test_a_reset_is_compared_only_when_enough_was_used_up_and_before_it_has_passed(told):
    told.send(4)
    told.land(1, says(14, "1s"))
    told.land(4, says(10, "30s"))
    told.send(10)
    told.land(14, says(0, "30s"), now=2.0)

    told.quota.read(says(0, "30s"), number=14, newest=14, seen=14, now=2.0)

    assert told.wait(now=2.0) == 30.0


def test_a_bucket_that_turns_out_to_be_a_window_is_a_window_again(told):
    told.send(20)
    told.land(5, says(95, "3s"))
    told.land(20, says(80, "12s"))
    told.send(80)
    told.land(50, says(50, "30s"), now=4.0)
    told.land(100, says(0, "30s"), now=4.0)
    told.aloft = 0

    assert told.wait(now=4.0) == 30.0
