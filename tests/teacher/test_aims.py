"""What requests aim at: exact shares, whatever the order, and different within a study."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import ANSWERS, Answer, Question
from medslm.errors import DataError, ParamsError
from medslm.teacher.aims import ANSWER_SHARES, Shares, aims_of, apportion, wanted_answers
from medslm.teacher.prompts import FOCI, Aim
from tests.factories import question

WEIGHTS = st.tuples(*[st.integers(0, 20)] * 3).filter(any)
STUDIES = [question(str(n), answer=ANSWERS[n % 3]) for n in range(100)]


def shares(weights: tuple[int, ...]) -> dict[Answer, Fraction]:
    return {a: Fraction(w, sum(weights)) for a, w in zip(ANSWERS, weights, strict=True)}


def aims(questions: list[Question], **overrides: Any) -> dict[str, list[Aim]]:
    knobs = {"strategy": "new", "per_question": 2, "seed": 0, "answers": ANSWER_SHARES}
    knobs |= overrides
    aim_of = aims_of(questions, **knobs)
    return {q.pmid: [aim_of(q, i) for i in range(knobs["per_question"])] for q in questions}


def wanted(pmids: list[str], per_question: int, given: Shares) -> dict[tuple[str, int], Answer]:
    answer = wanted_answers(pmids, per_question, seed=0, shares=given)
    return {(pmid, index): answer(pmid, index) for pmid in pmids for index in range(per_question)}


@given(WEIGHTS, st.integers(0, 60), st.integers(1, 6))
def test_every_answer_is_wanted_as_often_as_its_share_says(weights, studies, per_question):
    given = shares(weights)

    found = wanted([str(n) for n in range(studies)], per_question, given)

    for first in range(1, per_question + 1):
        counts = Counter(answer for (_, index), answer in found.items() if index < first)
        for answer, share in given.items():
            assert abs(counts[answer] - share * studies * first) < 1


@given(WEIGHTS.filter(lambda w: 2 * max(w) <= sum(w)), st.integers(1, 60))
def test_a_second_question_aims_elsewhere_than_the_first(weights, studies):
    found = wanted([str(n) for n in range(studies)], 2, shares(weights))

    assert all(found[str(n), 0] != found[str(n), 1] for n in range(studies))


def test_with_a_share_above_a_half_some_second_questions_cannot():
    found = wanted([str(n) for n in range(50)], 2, shares((3, 1, 0)))

    assert any(found[str(n), 0] == found[str(n), 1] for n in range(50))


@given(WEIGHTS, st.permutations(range(20)))
def test_neither_the_order_of_studies_nor_a_further_index_changes_an_aim(weights, order):
    given = shares(weights)
    found = wanted([str(n) for n in range(20)], 2, given)

    assert wanted([str(n) for n in order], 2, given) == found
    assert found.items() <= wanted([str(n) for n in order], 3, given).items()


@pytest.mark.parametrize("studies", [10, 100, 1000])
def test_a_further_study_moves_the_aim_of_few_others(studies):
    pmids = [str(n) for n in range(studies)]

    before = wanted(pmids, 3, shares((9, 7, 4)))
    after = wanted([*pmids, "new"], 3, shares((9, 7, 4)))

    moved = Counter(
        index for (pmid, index), answer in before.items() if after[pmid, index] != answer
    )
    assert max(moved.values(), default=0) <= 4


def test_the_seed_decides_which_study_aims_at_what():
    assert aims(STUDIES) == aims(STUDIES)
    assert aims(STUDIES) != aims(STUDIES, seed=1)


@given(WEIGHTS, st.integers(0, 200))
def test_more_seats_take_none_away_and_all_are_given(weights, seats):
    given = shares(weights)

    before, after = apportion(seats, given), apportion(seats + 1, given)

    assert sum(before.values()) == seats
    assert all(before[answer] <= after[answer] for answer in before)


def test_seats_are_shared_out_as_websters_method_does():
    # Sainte-Lague's divisors 1, 3, 5: quotients 9, 7, 4 | 3, 2.33, 1.33 | 1.8, 1.4, .8
    order = [apportion(n, shares((9, 7, 4))) for n in range(1, 7)]

    assert [tuple(counts.values()) for counts in order] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 1, 1),
        (2, 1, 1),
        (2, 2, 1),
        (3, 2, 1),
    ]


def test_the_questions_of_a_study_look_at_different_sides_of_it():
    found = aims(STUDIES, per_question=len(FOCI))

    assert all({aim.focus for aim in row} == set(FOCI) for row in found.values())
    assert len({row[0].focus for row in found.values()}) == len(FOCI)
    assert [aim.number for aim in found["3"]] == list(range(1, len(FOCI) + 1))


def test_a_counterfactual_aims_at_another_answer_than_gold_in_the_shares_of_the_others():
    studies = [question(str(n), answer="yes" if n < 55 else "no") for n in range(100)]

    found = aims(studies, strategy="counterfactual", per_question=1)

    counts = Counter((q.answer, found[q.pmid][0].wanted) for q in studies)
    assert counts == {
        ("yes", "no"): 35,
        ("yes", "maybe"): 20,
        ("no", "yes"): 31,
        ("no", "maybe"): 14,
    }


@pytest.mark.parametrize("strategy", ["rewrite", "pseudo-label", "answer"])
def test_other_strategies_aim_at_nothing(strategy):
    assert aims(STUDIES[:1], strategy=strategy)["0"] == [Aim(1, "", ""), Aim(2, "", "")]


def test_what_cannot_be_turned_is_refused():
    with pytest.raises(DataError, match="PMID 7: a counterfactual needs a gold answer"):
        aims([question("7", answer=None)], strategy="counterfactual")
    with pytest.raises(ParamsError, match="with yes alone"):
        aims([question("7", answer="yes")], strategy="counterfactual", answers={"yes": 1})


@pytest.mark.parametrize(
    "answers",
    [
        {"yes": 0.5},
        {"yes": 0.5, "no": 0.5, "maybe": 0.5},
        {"yes": 1.5, "no": -0.5},
        {"yes": float("nan"), "no": 1},
        {"yes": float("inf")},
        {"yes": 0.5, "perhaps": 0.5},
        {},
    ],
    ids=["half", "above", "negative", "nan", "infinite", "unknown", "none"],
)
def test_shares_that_are_none_are_refused(answers):
    with pytest.raises(ParamsError, match="shares of yes, no, maybe that sum to 1"):
        aims(STUDIES, answers=answers)


def test_shares_that_are_rounded_to_two_digits_will_do():
    found = aims(STUDIES[:99], per_question=1, answers={"yes": 0.33, "no": 0.33, "maybe": 0.33})

    assert Counter(row[0].wanted for row in found.values()) == {"yes": 33, "no": 33, "maybe": 33}
