from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.limits import Pacer, Sent
from tests.teacher.rate_servers import (
    RPM,
    Bucket,
    Fixed,
    Free,
    Job,
    Latency,
    Sliding,
    most_in_a_minute,
)

MARGIN_S = 60.1  # a minute and what two clocks may differ by
WAY_S = 2.0
QUICK, SLOW, SAME = Latency(0.05, 0.2), Latency(0.05, 2.0), Latency(0.3, 0.3)


def requests_left(count: int, reset: str) -> dict[str, str]:
    return {"x-ratelimit-remaining-requests": str(count), "x-ratelimit-reset-requests": reset}


def tokens_left(count: int, reset: str) -> dict[str, str]:
    return {"x-ratelimit-remaining-tokens": str(count), "x-ratelimit-reset-tokens": reset}


class Clocked:
    """A pacer with a clock that stands until it is moved."""

    def __init__(
        self, *, concurrency: int = 10, rpm: int | None = None, tpm: int | None = None
    ) -> None:
        self.now = 0.0
        self.pacer = Pacer(concurrency=concurrency, rpm=rpm, tpm=tpm, clock=lambda: self.now)

    def delay(self, tokens: int = 10) -> float | None:
        return self.pacer.delay(tokens)

    def send(self, count: int = 1, tokens: int = 10) -> list[Sent]:
        return [self.pacer.sent(tokens) for _ in range(count)]

    def succeed(
        self, *sent: Sent, used: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        for one in sent:
            self.pacer.succeeded(one, used, headers or {})

    def refuse(
        self, *sent: Sent, wait_s: float | None = None, headers: dict[str, str] | None = None
    ) -> None:
        for one in sent:
            self.pacer.refused(one, wait_s, headers or {})

    def fail(self, *sent: Sent) -> None:
        for one in sent:
            self.pacer.failed(one, {})

    def probe(self) -> Sent:
        """Move the clock to when the next may leave, and let it."""
        delay = self.delay()
        assert delay is not None
        self.now += delay
        assert self.delay() == 0.0
        return self.send()[0]


def sure(delay: float | None) -> float:
    assert delay is not None
    return delay


# Requests and tokens a minute


def test_all_of_a_minute_may_leave_at_once_and_the_next_when_the_first_is_a_minute_old():
    job = Clocked(rpm=3)
    job.send(2)
    assert job.delay() == 0.0
    sent = job.send()[0]

    assert job.delay() == pytest.approx(WAY_S + MARGIN_S)
    job.now = WAY_S + MARGIN_S
    assert job.delay() == 0.0
    assert sent.number == 3


def test_without_a_limit_nothing_waits():
    job = Clocked(concurrency=1000)
    for _ in range(500):
        assert job.delay() == 0.0
        job.succeed(*job.send())


def test_an_answer_shows_that_the_request_has_arrived():
    job = Clocked(rpm=1)
    sent = job.send()
    job.now = 0.5
    job.succeed(*sent)

    assert job.delay() == pytest.approx(MARGIN_S)


def test_a_late_answer_does_not_keep_a_request_in_its_minute():
    job = Clocked(rpm=1)
    sent = job.send()
    job.now = 30.0
    job.succeed(*sent)

    assert job.delay() == pytest.approx(WAY_S + MARGIN_S - 30.0)


def test_a_quick_answer_behind_a_slow_one_waits_for_it():
    job = Clocked(rpm=2)
    slow, quick = job.send(2)
    job.succeed(quick)
    job.now = 1.0
    job.succeed(slow)

    assert job.delay() == pytest.approx(MARGIN_S)


@pytest.mark.parametrize(
    ("used", "left"), [(20, 80), (None, 40), (-5, 40), (1, 99), (90, 10), (100, None)]
)
def test_tokens_are_reserved_as_guessed_and_settled_as_used(used, left):
    job = Clocked(tpm=100)
    sent = job.send(tokens=60)
    assert (job.delay(40), sure(job.delay(41)) > 0) == (0.0, True)

    job.succeed(*sent, used=used)

    if left is not None:
        assert job.delay(left) == 0.0
    assert job.delay(1 if left is None else left + 1) == pytest.approx(MARGIN_S)


def test_a_usage_that_comes_after_its_minute_changes_nothing():
    job = Clocked(tpm=100)
    (slow,) = job.send(tokens=100)
    job.now = WAY_S + MARGIN_S
    assert job.delay(100) == 0.0

    job.succeed(slow, used=1000)

    assert job.delay(100) == 0.0


def test_tokens_leave_one_request_after_the_other():
    job = Clocked(tpm=100)
    job.send(tokens=40)
    job.now = 10.0
    job.send(tokens=60)

    assert job.delay(40) == pytest.approx(WAY_S + MARGIN_S - 10)
    assert job.delay(41) == pytest.approx(WAY_S + MARGIN_S)


def test_a_request_larger_than_the_limit_goes_alone():
    job = Clocked(tpm=100)
    assert job.delay(1000) == 0.0
    job.send(tokens=1)
    assert sure(job.delay(1000)) > 0

    job.now = WAY_S + MARGIN_S
    assert job.delay(1000) == 0.0
    job.send(tokens=1000)
    assert job.delay(1) == pytest.approx(WAY_S + MARGIN_S)


def test_a_refused_request_counts_against_a_given_limit_and_its_tokens_do_not():
    job = Clocked(rpm=2, tpm=100)
    first, second = job.send(2, tokens=50)
    job.succeed(second, used=50)
    job.now = 1.0

    job.refuse(first, wait_s=0.0)

    assert sure(job.delay(50)) == pytest.approx(MARGIN_S - 0.0)
    job = Clocked(tpm=100)
    first, second = job.send(2, tokens=50)
    job.succeed(second, used=50)
    assert sure(job.delay(50)) > 0
    job.refuse(first)
    assert job.delay(50) == 0.0


latencies = st.tuples(st.floats(0, WAY_S), st.floats(0, 100), st.booleans())


@given(st.lists(latencies, min_size=30, max_size=120), st.integers(1, 12), st.integers(1, 40))
def test_never_more_than_the_limit_arrive_in_any_minute(answers, rpm, concurrency):
    """Whatever the latencies, if the way there takes two seconds at most."""
    job = Clocked(concurrency=concurrency, rpm=rpm)
    arrivals: list[float] = []
    flights: list[tuple[float, int, Sent, bool]] = []
    for number, (way, rest, fails) in enumerate(answers):
        while (delay := job.delay()) != 0:
            ends = [flight[0] for flight in flights]
            assert delay is not None or flights, "None, and nothing on its way"
            job.now = min([*ends, math.inf if delay is None else job.now + delay])
            for flight in [f for f in flights if f[0] <= job.now]:
                flights.remove(flight)
                (job.fail if flight[3] else job.succeed)(flight[2])
        arrivals.append(job.now + way)
        flights.append((job.now + way + rest, number, job.send()[0], fails))

    assert most_in_a_minute(arrivals) <= rpm


@given(st.lists(st.tuples(st.integers(1, 80), st.floats(0, 3)), min_size=20, max_size=60))
def test_never_more_tokens_than_the_limit_leave_in_any_minute(requests):
    job = Clocked(tpm=100)
    taken: list[tuple[float, int]] = []
    for tokens, latency in requests:
        while delay := sure(job.delay(tokens)):
            job.now += delay
        taken.append((job.now, tokens))
        sent = job.send(tokens=tokens)
        job.now += latency
        job.succeed(*sent, used=None)

    for (begins, _), at in zip(taken, itertools.count()):
        window = [tokens for t, tokens in taken[at:] if t - begins < 60]
        assert sum(window) <= 100


def test_the_property_can_fail():
    """The same job without a limit sends more than that."""
    job = Clocked(concurrency=40)
    arrivals = []
    for _ in range(30):
        assert job.delay() == 0.0
        arrivals.append(job.now)
        job.succeed(*job.send())
        job.now += 1.0

    assert most_in_a_minute(arrivals) == 30


# Concurrency


def test_a_few_may_be_on_their_way_at_first_and_one_more_with_each_success():
    job = Clocked(concurrency=64)
    sent = job.send(8)
    assert (job.delay(), job.pacer.width, job.pacer.in_flight) == (None, 8, 8)

    job.succeed(*sent[:3])

    assert (job.pacer.width, job.pacer.in_flight) == (11, 5)
    job.succeed(sent[3])
    assert job.pacer.width == 12


@pytest.mark.parametrize(("sent", "more"), [(0, 2), (100, 2), (383, 2), (384, 3), (12_800, 100)])
def test_the_more_the_last_minute_took_the_more_may_leave_at_once(sent, more):
    """At an unknown limit that is what runs into the refusal of the first."""
    now = 0.0
    pacer = Pacer(concurrency=64, rpm=None, tpm=None, clock=lambda: now)
    for _ in range(sent):
        pacer.succeeded(pacer.sent(0), None, {})
    assert pacer.at_once == more

    now = 100.0
    pacer.delay(0)
    assert pacer.at_once == 2


def test_the_width_never_passes_the_cap():
    job = Clocked(concurrency=3)
    assert job.pacer.width == 3
    for _ in range(20):
        job.succeed(*job.send())

    assert job.pacer.width == 3


@pytest.mark.parametrize("cap", [1, 8, 64])
def test_a_given_limit_needs_no_slow_start(cap):
    assert Clocked(concurrency=cap, rpm=1000).pacer.width == cap


@pytest.mark.parametrize(
    "headers", [requests_left(50, "1s"), tokens_left(50, "1s")], ids=["requests", "tokens"]
)
def test_headers_need_no_slow_start(headers):
    job = Clocked(concurrency=64)
    job.succeed(*job.send(), headers={"x-request-id": "1"})
    assert job.pacer.width == 9

    job.succeed(*job.send(), headers=headers)

    assert job.pacer.width == 64


def test_failures_of_one_round_trip_shrink_the_width_once_and_it_climbs_by_one_per_round_trip():
    job = Clocked(concurrency=64)
    job.fail(*job.send(4))
    assert job.pacer.width == 6

    job.fail(*job.send())
    assert job.pacer.width == 4

    for _ in range(4):
        job.succeed(*job.send())
    assert job.pacer.width == 5
    job.succeed(*job.send(), headers=requests_left(50, "1s"))
    assert job.pacer.width == 5


def test_the_width_never_falls_below_one():
    job = Clocked(concurrency=2)
    for _ in range(10):
        job.fail(*job.send())

    assert (job.pacer.width, job.delay()) == (1, 0.0)


def test_a_failed_probe_is_followed_by_another():
    job = Clocked()
    job.refuse(*job.send())
    probe = job.probe()

    job.fail(probe)

    assert (job.delay(), job.pacer.width) == (0.0, 1)


def test_the_cap_is_reached_within_two_seconds():
    job = Job(Free(), 1000, Latency(0.2, 0.2), concurrency=64).run()

    assert min(at for at, width in job.widths if width == 64) < 2
    assert job.done_at[-1] < 1000 * 0.2 / 64 + 1


def test_a_request_costs_tens_of_microseconds():
    now = 0.0
    pacer = Pacer(concurrency=64, rpm=30_000, tpm=150_000_000, clock=lambda: now)
    headers = requests_left(29_000, "1.2s") | tokens_left(149_000_000, "12ms")
    flights: list[Sent] = []
    started = time.process_time()
    for _ in range(20_000):
        while pacer.delay(500) == 0:
            flights.append(pacer.sent(500))
        now += 0.003
        pacer.succeeded(flights.pop(0), 480, headers)

    assert (time.process_time() - started) / 20_000 < 300e-6


# Headers


def test_nothing_leaves_while_nothing_is_left():
    job = Clocked(concurrency=64)
    job.succeed(*job.send(), headers=requests_left(0, "6m0s"))

    assert job.delay() == 360.0
    job.now = 360.0
    assert job.delay() == 0.0


def test_a_limit_of_tokens_is_kept_too():
    job = Clocked(concurrency=64)
    job.succeed(*job.send(), headers=tokens_left(100, "30s"))

    assert (job.delay(100), job.delay(1)) == (0.0, 0.0)
    job.send(tokens=60)
    assert (job.delay(40), job.delay(41)) == (0.0, 30.0)


def test_only_an_answer_helps_where_no_reset_is_named():
    job = Clocked(concurrency=64)
    first, second = job.send(2)
    job.succeed(first, headers={"x-ratelimit-remaining-requests": "0"})
    assert job.delay() is None

    job.succeed(second, headers={"x-ratelimit-remaining-requests": "0"})
    assert job.delay() == 0.0


def test_what_was_surely_seen_by_the_server_need_not_be_taken_off():
    """The first ten went a second earlier: "90 left" has counted them, landed or not."""
    job = Clocked(concurrency=64, rpm=10_000)
    job.send(10)
    job.now = 1.0
    sent = job.send()

    job.succeed(*sent, headers=requests_left(89, "59s"))

    job.send(52)
    assert job.delay() == 0.0
    job = Clocked(concurrency=64, rpm=10_000)
    job.send(10)
    job.succeed(*job.send(), headers=requests_left(40, "59s"))
    job.send(30)
    assert job.delay() == 59.0


def test_tokens_that_were_surely_seen_need_not_be_taken_off():
    job = Clocked(concurrency=64, rpm=10_000)
    job.send(10, tokens=10)
    job.now = 0.25
    sent = job.send(tokens=10)

    job.succeed(*sent, headers=tokens_left(50, "59s"))

    # The tenth, sent just before, may still have been on its way.
    assert (job.delay(40), job.delay(50)) == (0.0, 59.0)
    job = Clocked(concurrency=64, rpm=10_000)
    job.send(10, tokens=10)
    job.now = 0.24
    job.succeed(*job.send(tokens=10), headers=tokens_left(50, "59s"))
    assert job.delay(1) == 59.0


# Refusals


def test_everybody_waits_as_long_as_the_server_asks():
    job = Clocked()
    sent = job.send(3)
    job.refuse(sent[0], wait_s=5.0)
    job.succeed(sent[1], sent[2])

    assert job.delay() == 5.0
    job.now = 2.0
    assert job.delay() == 3.0
    job.now = 5.0
    assert job.delay() == 0.0


def test_a_shorter_wish_does_not_undo_a_longer_one():
    job = Clocked()
    first, second, third = job.send(3)
    job.refuse(first, wait_s=5.0)
    job.refuse(second, wait_s=1.0)
    assert job.delay() == 5.0

    job.refuse(third, wait_s=7.0)
    assert job.delay() == 7.0


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0, None])
def test_a_wish_that_is_none_is_no_wish(nonsense):
    job = Clocked()
    job.refuse(*job.send(3), wait_s=nonsense)

    assert job.delay() == 0.5


def test_a_wish_for_no_time_at_all_is_one():
    job = Clocked()
    job.refuse(*job.send(3), wait_s=0.0)

    assert job.delay() == 0.0


def test_after_a_refusal_one_probe_goes_until_it_got_through():
    job = Clocked(concurrency=8)
    job.refuse(*job.send(8))
    assert job.pacer.width == 1
    job.probe()

    assert sure(job.delay()) > 0
    (probe,) = job.pacer._flights.values()
    job.succeed(probe)

    assert (job.pacer.width > 1, job.delay()) == (True, 0.0)
    job.send()
    assert job.delay() == 0.0


def test_a_probe_that_is_not_refused_in_time_is_accepted():
    job = Clocked(concurrency=8)
    sent = job.send(8)
    job.now = 0.5  # so long does a refusal take
    job.refuse(*sent)
    job.probe()
    assert job.delay() == pytest.approx(1.0)

    job.now += 0.9
    assert (job.delay(), job.pacer.width) == (pytest.approx(0.1), 1)
    job.now += 0.11
    assert (job.delay(), job.pacer.width > 1) == (0.0, True)


def test_the_slowest_refusal_of_late_says_how_long_one_takes():
    job = Clocked(concurrency=8)
    slow, quick = job.send(2)
    job.refuse(quick)
    assert job.delay() == 0.1
    job.probe()
    assert job.delay() == pytest.approx(0.25)
    job.now = 2.0
    job.refuse(slow)
    job.send()
    assert job.delay() == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("wish", "burst", "waits"),
    [
        (None, 5, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        (1.0, 5, [1.0, 8.0, 16.0, 16.0]),
        (9.0, 5, [9.0, 9.0, 16.0]),
        (0.2, 5, [0.2, 8.0, 16.0, 16.0]),
        (1.0, 1, [1.0, 1.0, 2.0, 16.0]),  # one may be chance, four in a row are not
    ],
)
def test_a_probe_that_is_refused_too_makes_the_next_wait_longer(wish, burst, waits):
    """Above all if it is refused although the server's own wish has passed."""
    job = Clocked(concurrency=8)
    job.refuse(*job.send(burst), wait_s=wish)
    found = []
    for _ in waits:
        found.append(sure(job.delay()))
        job.refuse(job.probe(), wait_s=wish)

    assert found == pytest.approx(waits)


def test_no_wait_grows_beyond_sixteen_seconds():
    job = Clocked()
    job.refuse(*job.send(5))
    for _ in range(3000):
        job.refuse(job.probe())

    assert job.delay() == pytest.approx(16.0)


def test_the_refusals_of_one_burst_are_one_event():
    job = Clocked(concurrency=8)
    sent = job.send(8)
    job.refuse(*sent[:7])
    job.now = 0.3
    job.refuse(sent[7])

    assert job.delay() == pytest.approx(0.2)
    assert job.pacer.refusals == 8


def test_a_success_makes_the_next_first_wait_short_again():
    job = Clocked(concurrency=8)
    job.refuse(*job.send(3))
    job.refuse(job.probe())
    job.succeed(job.probe())

    job.refuse(*job.send(3))

    assert job.delay() == 0.5


def test_a_refusal_that_a_later_success_overtook_is_chance():
    job = Clocked(concurrency=8)
    first, second = job.send(2)
    job.succeed(second)

    job.refuse(first)

    assert (job.delay(), job.pacer.width) == (0.0, 8)
    job = Clocked(concurrency=8)
    first, second = job.send(2)
    job.succeed(first)
    job.refuse(second)
    assert job.pacer.width == 1


def test_a_later_success_ends_the_wait_and_an_earlier_one_does_not():
    job = Clocked(concurrency=8)
    before, refused, after = job.send(3)
    job.refuse(refused)
    job.succeed(before)
    assert job.pacer.width == 1

    job.succeed(after)

    assert (job.pacer.width, job.delay()) == (8, 0.0)


def test_the_first_refusal_after_many_successes_waits_but_a_moment():
    job = Clocked(concurrency=8)
    for _ in range(5):
        job.succeed(*job.send())
    job.refuse(*job.send())

    assert job.delay() == pytest.approx(0.1)
    job.refuse(job.probe())
    assert job.delay() == pytest.approx(1.0)


@pytest.mark.parametrize(("refusals", "width"), [(4, 64), (5, 32), (8, 32), (9, 1), (12, 1)])
def test_the_more_was_refused_in_a_row_the_lower_it_starts_again(refusals, width):
    job = Clocked(concurrency=64, rpm=10_000)
    job.refuse(*job.send(refusals))

    probe = job.probe()
    job.now += 10.0
    assert job.delay() == 0.0
    assert job.pacer.width == width
    assert probe.number == refusals + 1


def test_after_a_limit_showed_itself_half_the_width_is_regained_quickly():
    job = Clocked(concurrency=64, rpm=10_000)
    job.refuse(*job.send(12))
    job.succeed(job.probe())
    for _ in range(30):
        job.succeed(*job.send())

    assert job.pacer.width == 32
    for _ in range(31):
        job.succeed(*job.send())
    assert job.pacer.width == 32
    job.succeed(*job.send(2))
    assert job.pacer.width == 33


def test_how_long_nothing_but_refusals_came_is_told():
    job = Clocked()
    job.succeed(*job.send())
    job.now = 100.0
    assert job.pacer.stuck_s == 0.0
    first, second, third = job.send(3)
    job.refuse(first)
    job.now = 130.0
    job.refuse(second)

    assert job.pacer.stuck_s == 30.0
    job.succeed(third)
    assert (job.pacer.stuck_s, job.pacer.refusals) == (0.0, 2)


# What refusals teach


def burst(job: Clocked, accepted: int, refused: int) -> None:
    sent = job.send(accepted + refused)
    job.succeed(*sent[:accepted])
    job.refuse(*sent[accepted:])


def knock(job: Clocked, until: float) -> Sent:
    """Refuse every probe until one leaves so late; return that one."""
    while (probe := job.probe()).at < until:
        job.refuse(probe)
    return probe


def test_no_probe_misses_the_moment_when_a_window_opens():
    job = Clocked(concurrency=64)
    burst(job, accepted=5, refused=10)

    assert knock(job, until=50.0).at == pytest.approx(MARGIN_S)


def test_a_window_that_opens_when_expected_is_remembered():
    job = Clocked(concurrency=64)
    burst(job, accepted=5, refused=10)

    job.succeed(knock(job, until=50.0))

    job.send(4)
    trial = job.probe()
    assert trial.at == pytest.approx(MARGIN_S + 0.25)
    assert sure(job.delay()) > 50  # one at a time
    job.now += 0.2
    job.refuse(trial)
    assert sure(job.delay()) > 50


def test_a_wish_until_the_window_opens_is_enough_to_remember_it():
    job = Clocked(concurrency=64)
    sent = job.send(6)
    job.succeed(*sent[:5])
    job.refuse(sent[5], wait_s=60.1)
    job.succeed(job.probe())

    job.send(4)
    job.refuse(job.probe(), wait_s=0.0)

    assert sure(job.delay()) > 50
    job = Clocked(concurrency=64)
    sent = job.send(6)
    job.succeed(*sent[:5])
    job.refuse(sent[5], wait_s=10.0)
    job.succeed(job.probe())
    job.send(4)
    job.refuse(job.probe(), wait_s=0.0)
    assert sure(job.delay()) < 1


def test_nothing_is_tried_shortly_before_the_window_moves_on():
    """The server's window may be up to two seconds ahead: what it takes then proves nothing."""
    job = Clocked(concurrency=64)
    burst(job, accepted=5, refused=10)
    job.succeed(knock(job, until=50.0))
    job.send(4)
    job.now += 59.0
    assert sure(job.delay()) == pytest.approx(MARGIN_S - 59.0)
    job.now -= 2.0
    assert job.delay() == 0.0


def test_an_outage_of_a_minute_is_no_limit():
    """Five were accepted before it; after it, the sixth in a minute is accepted as well."""
    job = Job(Free(down=(1.0, 70.0)), 2000, Latency(0.2, 0.2), concurrency=64).run()

    assert job.done_at[-1] < 70 + 16 + 2000 * 0.2 / 64 + 10


@pytest.mark.parametrize("length", [5, 31, 58, 90, 300])
@pytest.mark.parametrize("concurrency", [4, 64])
def test_a_storm_of_refusals_passes(length, concurrency):
    server = Free(down=(1.0, 1.0 + length))

    job = Job(server, 1000, Latency(0.2, 0.2), concurrency=concurrency).run()

    # What is lost is at most a longest pause and a slow start.
    assert job.done_at[-1] < 1 + length + 16 + 1000 * 0.2 / concurrency + 10
    assert len(job.refused_at) <= concurrency + 8 + length / 16
    assert job.pacer.width > concurrency / 2


@pytest.mark.parametrize("latency", [QUICK, SLOW], ids=["quick", "slow"])
@pytest.mark.parametrize("kind", [Sliding, Fixed, Bucket], ids=["sliding", "fixed", "bucket"])
@pytest.mark.parametrize("seed", range(3))
def test_a_given_limit_is_used_up_and_never_refused(kind, latency, seed):
    job = Job(kind(), 200, latency, rpm=RPM, seed=seed).run()

    assert job.refused_at == []
    assert job.done_at[-1] <= 1.05 * ideal_s(latency, seed)
    assert most_in_a_minute(job.arrivals) == RPM


@pytest.mark.parametrize("latency", [QUICK, SLOW, SAME], ids=["quick", "slow", "same"])
@pytest.mark.parametrize("kind", [Sliding, Fixed, Bucket], ids=["sliding", "fixed", "bucket"])
@pytest.mark.parametrize("seed", range(3))
def test_headers_are_as_good_as_a_given_limit(kind, latency, seed):
    job = Job(kind(), 200, latency, told="headers", seed=seed).run()

    assert len(job.refused_at) <= 10
    assert job.done_at[-1] <= 1.055 * ideal_s(latency, seed)


@pytest.mark.parametrize("told", ["right", "wrong", "nothing"])
@pytest.mark.parametrize("latency", [QUICK, SLOW], ids=["quick", "slow"])
@pytest.mark.parametrize("kind", [Sliding, Fixed, Bucket], ids=["sliding", "fixed", "bucket"])
@pytest.mark.parametrize("slow_refusals", [False, True], ids=["soon", "late"])
def test_an_unknown_limit_is_found(kind, latency, told, slow_refusals):
    for seed in range(3):
        job = Job(kind(), 200, latency, told=told, seed=seed, slow_refusals=slow_refusals).run()

        assert job.done_at[-1] <= 1.12 * ideal_s(latency, seed)
        assert len(job.refused_at) <= 64 + 8 + 20 * (kind is Bucket and latency is SLOW)


@pytest.mark.parametrize("told", ["nothing", "right", "wrong", "headers"])
@pytest.mark.parametrize("concurrency", [2, 8])
def test_a_small_bucket_is_found_as_well(concurrency, told):
    """Ten at once and then a hundred a minute: no window of a minute describes it."""
    server = Bucket(per_minute=100, holds=10)

    job = Job(server, 200, QUICK, told=told, concurrency=concurrency).run()

    assert job.done_at[-1] <= 1.1 * (190 / 100 * 60)
    assert len(job.refused_at) <= 35


def ideal_s(latency: Latency, seed: int) -> float:
    """The first hundred as quickly as 64 at once can, the others a minute later."""
    free = Job(Free(), RPM, latency, rpm=10**6, seed=seed).run()
    return 60 + free.done_at[-1]


def test_a_remembered_limit_is_tried_anew_and_lasts():
    job = Job(Sliding(), 600, QUICK).run()

    later = [at for at in job.refused_at if at > 70]
    assert job.done_at[-1] < 304
    assert len(later) == 3  # one trial a minute


def test_a_limit_that_was_lifted_is_forgotten():
    class Lifted(Sliding):
        def take(self, at: float) -> bool:
            return at > 130 or super().take(at)

    lifted = Job(Lifted(), 1000, QUICK).run().done_at[-1]
    kept = Job(Sliding(), 1000, QUICK).run().done_at[-1]

    assert lifted < 200 < 540 < kept


@pytest.mark.parametrize("concurrency", [8, 64])
@pytest.mark.parametrize(
    "latency", [Latency(0.2, 0.2), Latency(0.05, 0.35), Latency(1, 3)], ids=["same", "any", "long"]
)
def test_random_refusals_do_not_bring_the_job_down(latency, concurrency):
    ideal = 2000 / 0.8 * sum(latency[:2]) / 2 / concurrency
    took = [
        Job(Free(0.2, seed), 2000, latency, seed=seed, concurrency=concurrency).run().done_at[-1]
        for seed in range(4)
    ]

    assert min(took) < 1.9 * ideal
    assert max(took) < 3 * ideal


def test_even_mostly_refusals_do_not_stop_the_job():
    job = Job(Free(0.5), 300, Latency(0.2, 0.2)).run()

    assert job.done_at[-1] < 300 * 6
    assert 150 < len(job.refused_at) < 600
