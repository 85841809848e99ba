"""Pooling and scoring: complete cells only, one answer per question, order never matters."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medslm.data.records import ANSWERS
from medslm.errors import DataError, Diverged
from medslm.evaluation.metrics import argmax
from medslm.evaluation.score import gold_answers, part, pool, score, submission
from tests.evaluation.worlds import NO_SHARES, answers_of, studies
from tests.factories import prediction, question

TEST = studies(5000, 30)
DEV = {0: studies(1000, 10), 1: studies(2000, 10)}


def scored(rows, *, folds=(0,), variant="none"):
    return score(
        rows,
        variant=variant,
        gold=gold_answers([*TEST, *DEV[0], *DEV[1]]),
        test_pmids=[q.pmid for q in TEST],
        dev_pmids={fold: [q.pmid for q in DEV[fold]] for fold in folds},
    )


def cell(fold=0, seed=0, strength=0.5):
    dev = answers_of(DEV[fold], split="dev", fold=fold, seed=seed, strength=strength)
    return [*dev, *answers_of(TEST, split="test", fold=fold, seed=seed, strength=strength)]


def probable(**shares):
    return {"yes": 0.0, "no": 0.0, "maybe": 0.0, **shares}


def test_one_cell_is_scored_as_it_answered():
    sheet = scored(cell())

    assert (sheet.test.n, sheet.dev.n, sheet.spread.cells) == (30, 10, 1)
    assert sheet.test.accuracy == sheet.cells[0].test_accuracy == sheet.spread.test_accuracy_mean
    assert sheet.dev.macro_f1 == sheet.cells[0].dev_macro_f1
    assert sheet.spread.test_accuracy_sd is None


def test_dev_pools_the_folds_and_test_averages_the_cells():
    sheet = scored([*cell(0), *cell(1)], folds=(0, 1))

    assert (sheet.dev.n, sheet.test.n) == (20, 30)
    right = sum(c.dev_accuracy * 10 for c in sheet.cells)
    assert sheet.dev.accuracy == pytest.approx(right / 20)
    assert sheet.spread.test_accuracy_sd is not None


def test_several_students_answer_by_their_mean_probabilities():
    sure = prediction(seed=0, probabilities=probable(yes=0.9, no=0.1), answer="yes")
    unsure = prediction(seed=1, probabilities=probable(yes=0.4, no=0.6), answer="no")

    pooled = pool({"1": [sure, unsure]})["1"]

    assert pooled.answer == "yes"
    assert pooled.probabilities == pytest.approx(probable(yes=0.65, no=0.35))


def test_the_mean_answer_follows_the_surer_student():
    doubtful = prediction(seed=0, probabilities=probable(yes=0.6, no=0.4), answer="yes")
    sure = prediction(seed=1, probabilities=probable(yes=0.1, no=0.9), answer="no")

    assert pool({"1": [doubtful, sure]})["1"].answer == "no"


def test_a_student_without_answer_has_no_say_in_the_mean():
    silent = prediction(seed=0, probabilities=probable(maybe=1.0), answer=None)
    sure = prediction(seed=1, probabilities=probable(yes=1.0), answer="yes")

    assert pool({"1": [silent, sure]})["1"] == ("yes", probable(yes=1.0))
    assert pool({"1": [silent, silent]})["1"].answer is None


def test_different_answers_without_probabilities_cannot_be_averaged_and_equal_ones_need_not_be():
    rows = [prediction(fold=f, probabilities={}, answer=a) for f, a in enumerate(["yes", "no"])]

    with pytest.raises(DataError, match="2 different answers without probabilities cannot be"):
        pool({"1": rows})
    assert pool({"1": rows[:1]})["1"] == ("yes", {})
    assert pool({"1": [rows[0], dataclasses.replace(rows[0], fold=1)]})["1"] == ("yes", {})


distribution = st.tuples(*[st.floats(0.01, 1)] * 3).map(
    lambda shares: dict(zip(ANSWERS, (s / sum(shares) for s in shares), strict=True))
)


@given(st.lists(distribution, min_size=2, max_size=4))
def test_what_all_students_say_their_mean_says_too(distributions):
    """So equal answers can be pooled without their probabilities."""
    said = [argmax(shares) for shares in distributions]
    rows = [
        prediction(seed=seed, probabilities=shares, answer=answer)
        for seed, (shares, answer) in enumerate(zip(distributions, said, strict=True))
    ]

    if len(set(said)) == 1:
        assert pool({"1": rows})["1"].answer == said[0]
    assert pool({"1": rows})["1"].answer in ANSWERS


def test_answers_without_probabilities_have_no_likelihood_and_all_other_scores():
    bare = [dataclasses.replace(row, probabilities={}) for row in cell(strength=0.9)]

    sheet, full = scored(bare), scored(cell(strength=0.9))

    for name in ("nll", "brier", "ece"):
        assert (getattr(sheet.dev, name), getattr(sheet.test, name)) == (None, None)
        assert getattr(full.test, name) > 0
    assert dataclasses.replace(full.test, **NO_SHARES) == sheet.test


def test_the_same_answers_in_every_fold_are_scored_once():
    test = [dataclasses.replace(row, probabilities={}) for row in answers_of(TEST, split="test")]
    rows = [dataclasses.replace(row, fold=fold) for fold in (0, 1) for row in test]
    for fold in (0, 1):
        dev = answers_of(DEV[fold], split="dev", fold=fold)
        rows += [dataclasses.replace(row, probabilities={}) for row in dev]

    sheet = scored(rows, folds=(0, 1))

    assert (sheet.test.n, sheet.dev.n) == (30, 20)
    assert sheet.test.accuracy == sheet.cells[0].test_accuracy == sheet.cells[1].test_accuracy


def test_the_order_of_predictions_changes_nothing():
    rows = [*cell(0, 0), *cell(0, 1), *cell(1, 0), *cell(1, 1)]
    shuffled = random.Random(7).sample(rows, len(rows))

    assert scored(shuffled, folds=(0, 1)) == scored(rows, folds=(0, 1))


def test_other_predictions_change_the_scores():
    assert scored(cell(strength=0.9)) != scored(cell(strength=0.5))


def test_unanswered_questions_are_wrong_and_counted():
    rows = cell(strength=5)
    perfect = scored(rows)
    rows[-1] = dataclasses.replace(rows[-1], answer=None)

    sheet = scored(rows)

    assert (perfect.test.unanswered, perfect.test.accuracy) == (0, 1.0)
    assert (sheet.test.unanswered, sheet.test.accuracy) == (1, pytest.approx(29 / 30))
    assert sum(row[-1] for row in sheet.test.confusion) == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rows: rows[:-1], r"fold 0, seed 0, test.*1 missing \(5029\)"),
        (lambda rows: [*rows, rows[-1]], r"test.*1 repeated \(5029\)"),
        (lambda rows: rows[1:], r"fold 0, seed 0, dev.*1 missing \(1000\)"),
        (
            lambda rows: [*rows, prediction(pmid="9")],
            r"test.*1 not in the split \(9\)",
        ),
        (lambda rows: rows[:0], "no predictions"),
        (lambda rows: [*rows, prediction(fold=5)], "fold 5 is not in the split"),
    ],
)
def test_predictions_must_be_all_and_only_those_of_the_split(spoil, told):
    with pytest.raises(DataError, match=told):
        scored(spoil(cell()))


def test_every_fold_must_have_every_seed():
    with pytest.raises(DataError, match="none: fold 1 seed 1 is missing"):
        scored([*cell(0, 0), *cell(0, 1), *cell(1, 0)], folds=(0, 1))


def test_a_probability_that_is_not_finite_is_a_diverged_student():
    rows = cell()
    rows[0] = dataclasses.replace(rows[0], probabilities=probable(yes=float("nan")))

    with pytest.raises(Diverged, match="dev PMID 1000, fold 0, seed 0"):
        scored(rows)


def test_a_fold_question_without_gold_answer_is_an_error():
    with pytest.raises(DataError, match=r"1 questions of the folds have no gold answer.*\(77\)"):
        score(
            [prediction("1"), prediction("77", split="dev")],
            variant="none",
            gold={"1": "yes"},
            test_pmids=["1"],
            dev_pmids={0: ["77"]},
        )


def test_a_question_has_one_gold_answer():
    assert gold_answers([question("1"), question("1")]) == {"1": "yes"}
    with pytest.raises(DataError, match="PMID 1: has two gold answers"):
        gold_answers([question("1"), question("1", answer="no")])
    with pytest.raises(DataError, match="PMID 1: has no gold answer"):
        gold_answers([question("1", answer=None)])


def test_the_submission_has_the_pooled_answer_to_every_test_question():
    rows = cell(strength=5)

    answers = submission(rows, variant="none")

    assert answers == {q.pmid: q.answer for q in TEST}


def test_nothing_is_guessed_for_a_submission():
    rows = cell()
    rows[-1] = dataclasses.replace(rows[-1], answer=None)

    with pytest.raises(DataError, match=r"all 30 test questions and 1 have none \(5029\)"):
        submission(rows, variant="none")


def test_an_empty_split_has_no_score():
    with pytest.raises(DataError, match="none: there is no question in dev of fold 0"):
        score(
            [prediction("1")],
            variant="none",
            gold={"1": "yes"},
            test_pmids=["1"],
            dev_pmids={0: []},
        )


def test_the_intervals_of_likelihood_and_brier_score_are_scipys():
    rng = np.random.default_rng(2)
    questions = studies(900, 80)
    rows = answers_of(questions, split="test", fold=0, seed=0, strength=0.7)
    gold = {q.pmid: q.answer for q in questions}

    found = part(pool({row.pmid: [row] for row in rows}), gold)

    ordered = sorted(rows, key=lambda row: row.pmid)
    costs = {
        "nll": [-math.log(r.probabilities[gold[r.pmid]]) for r in ordered],
        "brier": [
            sum((p - (a == gold[r.pmid])) ** 2 for a, p in r.probabilities.items()) for r in ordered
        ],
    }
    for name, values in costs.items():
        theirs = stats.bootstrap(
            (np.array(values),), np.mean, method="percentile", n_resamples=5000, rng=rng
        ).confidence_interval
        assert getattr(found, name) == pytest.approx(np.mean(values))
        assert getattr(found, f"{name}_low") == pytest.approx(theirs.low, abs=0.02)
        assert getattr(found, f"{name}_high") == pytest.approx(theirs.high, abs=0.02)
    assert found.nll_low < found.nll < found.nll_high
