"""Worked examples: drawn from train by seed, all answers among them, never a held-out question."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import ANSWERS, Question
from medslm.errors import LeakageError, ParamsError
from medslm.teacher.shots import draw_shots, showable
from tests.factories import question

TRAIN = [question(str(n), answer=ANSWERS[n % 7 % 3]) for n in range(1, 41)]
ASKED = [question(str(n)) for n in range(100, 110)]

trains = st.lists(
    st.tuples(st.integers(1000, 10_000), st.sampled_from(ANSWERS)),
    unique_by=lambda row: row[0],
    max_size=30,
).map(lambda rows: [question(str(pmid), answer=answer) for pmid, answer in rows])


def drawn(train: list[Question] = TRAIN, *, count: int = 5, seed: int = 0) -> list[str]:
    return [q.pmid for q in draw_shots(train, asked=ASKED, count=count, seed=seed)]


def test_the_same_seed_draws_the_same_examples_and_another_draws_others():
    assert drawn() == drawn()
    assert drawn() == drawn(TRAIN[::-1])
    assert drawn(seed=1) != drawn()
    assert set(drawn(seed=1)) != set(drawn())


@pytest.mark.parametrize("count", range(3, 12))
def test_three_or_more_examples_show_every_answer_about_equally_often(count):
    shown = Counter(q.answer for q in draw_shots(TRAIN, asked=ASKED, count=count, seed=3))

    assert shown.total() == count
    assert set(shown) == set(ANSWERS)
    assert max(shown.values()) - min(shown.values()) <= 1


def test_the_answers_do_not_always_come_in_the_same_order():
    orders = {
        tuple(q.answer for q in draw_shots(TRAIN, asked=ASKED, count=3, seed=seed))
        for seed in range(20)
    }

    assert len(orders) > 3


@given(trains, st.integers(0, 10))
def test_one_more_example_keeps_the_others(train, seed):
    for count in range(len(train)):
        fewer = drawn(train, count=count, seed=seed)
        more = drawn(train, count=count + 1, seed=seed)

        assert [pmid for pmid in more if pmid in fewer] == fewer
        assert len(more) == len(set(more)) == count + 1


def test_no_example_is_shown_when_none_is_wanted():
    assert drawn(count=0) == []
    assert drawn([], count=0) == []


def test_an_answer_that_train_lacks_leaves_its_turn_to_the_others():
    few = [q for q in TRAIN if q.answer != "maybe"]

    shown = Counter(q.answer for q in draw_shots(few, asked=ASKED, count=6, seed=0))

    assert shown == {"yes": 3, "no": 3}


def test_a_question_without_an_answer_is_never_an_example():
    silent = [question("50", answer=None), question("51")]

    assert drawn(silent, count=1) == ["51"]


def test_more_examples_than_there_are_questions_are_refused():
    with pytest.raises(ParamsError, match=r"41 worked examples .* and 40 questions can be shown"):
        drawn(count=41)
    assert len(drawn(count=40)) == 40


def test_a_held_out_question_is_never_an_example():
    with pytest.raises(LeakageError, match=r"1 held-out question\(s\) .* example 7"):
        draw_shots(TRAIN, asked=[*ASKED, question("7")], count=0, seed=0)


def test_what_another_fold_holds_out_is_not_shown():
    dev = [question("3"), question("100")]

    assert [q.pmid for q in showable(TRAIN[:4], dev, ASKED)] == ["1", "2", "4"]
    assert showable(TRAIN, [], ASKED) == TRAIN


def test_a_test_question_in_train_stops_everything():
    with pytest.raises(LeakageError, match=r"1 test question\(s\) .* example 105: split again"):
        showable([*TRAIN, question("105")], [], ASKED)
