from __future__ import annotations

import pytest

from medslm.teacher.lessons import Lesson
from medslm.teacher.minute import Minute, Sent


class Taught:
    """A lesson, and requests that are accepted or refused one after the other."""

    def __init__(self) -> None:
        self.lesson = Lesson()
        self.now = 0.0
        self.newest = 0
        self._minute = Minute()

    def send(self) -> Sent:
        self.newest += 1
        return self._minute.add(number=self.newest, at=self.now, tokens=1, through=self.newest)

    def accept(self, count: int = 1) -> None:
        for _ in range(count):
            self.lesson.accepted(self.send())

    def refuse(self, sent: Sent | None = None, *, count: int = 0, alone: bool = True) -> None:
        self.lesson.refused(
            sent or self.send(), self.now, newest=self.newest, count=count, alone=alone
        )

    def window(self, count: int) -> None:
        self.lesson.learn_window(count, self.now, self.newest)


@pytest.fixture
def taught() -> Taught:
    return Taught()


def paced(taught: Taught) -> Taught:
    """Nine accepted within five seconds between two moments with nothing left: half a second."""
    taught.refuse()
    taught.accept(9)
    taught.now += 5.0
    taught.refuse()
    return taught


def test_a_pace_is_what_was_accepted_between_two_empty_moments(taught):
    assert paced(taught).lesson.pace_s == 0.5


def test_a_pace_gets_better_with_every_refusal(taught):
    paced(taught)
    taught.accept(20)
    taught.now += 19.0
    taught.refuse(alone=False)

    assert taught.lesson.pace_s == pytest.approx(24.0 / 30)


def test_nothing_is_measured_from_a_refusal_that_was_not_alone(taught):
    taught.refuse(alone=False)
    taught.accept(9)
    taught.now = 5.0
    taught.refuse(alone=False)

    assert taught.lesson.pace_s is None


def test_what_was_sent_before_the_empty_moment_is_not_counted(taught):
    early = taught.send()
    other = taught.send()
    taught.refuse()
    taught.lesson.accepted(early)
    taught.accept(4)
    taught.now = 5.0
    taught.refuse(other)
    assert taught.lesson.pace_s is None
    taught.refuse()

    assert taught.lesson.pace_s == 1.0


def test_a_server_that_is_still_empty_is_empty_from_now_on(taught):
    taught.refuse()
    taught.now = 4.0
    taught.refuse()
    taught.accept()
    taught.now = 6.0
    taught.refuse()

    assert taught.lesson.pace_s == 1.0


def test_a_refusal_after_more_than_a_minute_begins_anew(taught):
    taught.refuse()
    taught.accept(1000)
    taught.now = 60.5
    taught.refuse()
    assert taught.lesson.pace_s is None

    taught.accept()
    taught.now = 62.5
    taught.refuse()
    assert taught.lesson.pace_s == 1.0


def test_a_refusal_after_exactly_a_minute_still_measures(taught):
    taught.refuse()
    taught.accept(59)
    taught.now = 60.0
    taught.refuse()

    assert taught.lesson.pace_s == 1.0


def test_after_more_than_a_minute_one_that_was_not_alone_begins_nothing(taught):
    taught.refuse()
    taught.accept()
    taught.now = 60.5
    taught.refuse(alone=False)
    taught.accept()
    taught.now = 62.5
    taught.refuse(alone=False)

    assert taught.lesson.pace_s is None


def test_a_known_pace_is_measured_anew_after_a_minute_even_if_not_alone(taught):
    paced(taught)
    taught.accept(200)
    taught.now = 105.0
    taught.refuse(alone=False)
    assert taught.lesson.pace_s == pytest.approx(0.5)

    taught.accept(4)
    taught.now = 110.0
    taught.refuse(alone=False)
    assert taught.lesson.pace_s == 1.0


def test_a_pace_quickens_every_ten_clean_seconds(taught):
    paced(taught)
    taught.now = 14.9
    taught.lesson.loosen(taught.now)
    assert taught.lesson.pace_s == 0.5

    taught.now = 15.0
    taught.lesson.loosen(taught.now)
    taught.lesson.loosen(taught.now)
    assert taught.lesson.pace_s == pytest.approx(0.5 / 1.05)
    taught.now = 25.0
    taught.lesson.loosen(taught.now)
    assert taught.lesson.pace_s == pytest.approx(0.5 / 1.05**2)


def test_a_pace_that_only_gets_slower_is_forgotten_and_not_learned_again_at_once(taught):
    paced(taught)
    taught.now += 32.0
    taught.accept(0)
    taught.refuse()
    assert taught.lesson.pace_s == 3.7

    taught.now += 4.0
    taught.refuse()
    assert taught.lesson.pace_s is None
    taught.window(10)
    for _ in range(3):
        taught.now += 5.0
        taught.accept()
        taught.refuse()
    assert (taught.lesson.pace_s, taught.lesson.per_minute) == (None, None)

    taught.now += 600.0
    assert paced(taught).lesson.pace_s == 0.5


def test_a_window_is_doubled_when_one_beyond_it_is_accepted(taught):
    taught.window(10)
    for wanted in (20, 40):
        taught.lesson.trial = taught.newest + 1
        taught.accept()
        assert taught.lesson.per_minute == wanted
    taught.accept()
    assert taught.lesson.per_minute == 40


def test_a_window_is_confirmed_when_one_beyond_it_is_refused(taught):
    taught.window(10)
    taught.lesson.trial = taught.newest + 1
    trial = taught.send()
    taught.refuse(trial, count=12)
    assert (taught.lesson.per_minute, taught.lesson.confirmed) == (10, True)

    taught.lesson.accepted(trial)
    assert taught.lesson.per_minute == 10


@pytest.mark.parametrize(("count", "known"), [(7, 7), (0, 1), (10, 10), (11, 10)])
def test_no_window_is_larger_than_what_was_sent_when_it_refused(taught, count, known):
    taught.window(10)
    taught.refuse(count=count)
    assert taught.lesson.per_minute == known

    taught.refuse(count=0)
    assert taught.lesson.per_minute == known


def test_a_refusal_of_what_was_sent_before_says_nothing_of_the_window(taught):
    early = taught.send()
    taught.window(10)
    taught.refuse(early, count=5)

    assert (taught.lesson.per_minute, taught.lesson.confirmed) == (10, False)


def test_a_window_is_doubted_again_after_a_clean_minute(taught):
    taught.window(10)
    taught.refuse(count=10)
    taught.now = 59.9
    taught.lesson.loosen(taught.now)
    assert taught.lesson.confirmed

    taught.now = 60.0
    taught.lesson.loosen(taught.now)
    assert not taught.lesson.confirmed
    assert taught.lesson.per_minute == 10


def test_a_new_window_forgets_the_trial_of_an_old_one(taught):
    taught.lesson.trial = 5
    taught.lesson.confirmed = True
    taught.window(10)

    assert (taught.lesson.trial, taught.lesson.confirmed) == (0, False)


def test_one_lesson_is_enough(taught):
    paced(taught)
    taught.window(10)
    assert taught.lesson.per_minute is None

    other = Taught()
    other.window(10)
    other.window(20)
    assert other.lesson.per_minute == 10
    paced(other)
    assert other.lesson.pace_s is None


@pytest.mark.parametrize(
    ("accepted", "refused", "known"), [(24, 8, 10), (23, 9, None), (22, 9, 10), (72, 16, 10)]
)
def test_a_window_is_forgotten_if_more_than_a_quarter_is_refused(taught, accepted, refused, known):
    taught.window(10)
    taught.accept(accepted)
    for _ in range(refused):
        taught.refuse(count=10)

    assert taught.lesson.per_minute == known


def test_only_the_last_answers_count_for_that(taught):
    taught.window(10)
    taught.accept(1000)
    for _ in range(16):
        taught.refuse(count=10)
    assert taught.lesson.per_minute == 10

    taught.refuse(count=10)
    assert taught.lesson.per_minute is None


def test_answers_from_before_a_lesson_do_not_count(taught):
    early = [taught.send() for _ in range(40)]
    taught.window(10)
    for sent in early:
        taught.refuse(sent, count=10)
    assert taught.lesson.per_minute == 10

    taught.accept(31)
    taught.refuse(count=10)
    assert taught.lesson.per_minute == 10


def test_a_forgotten_window_leaves_no_answers_behind(taught):
    taught.window(10)
    for _ in range(32):
        taught.refuse(count=10)
    assert taught.lesson.per_minute is None
    taught.now = 600.0
    taught.window(10)
    assert taught.lesson.per_minute == 10

    for _ in range(31):
        taught.refuse(count=10)
    assert taught.lesson.per_minute == 10
