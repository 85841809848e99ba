"""The numbers, held against scikit-learn and scipy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from medslm.data.intervals import wilson
from medslm.data.records import ANSWERS
from medslm.data.scores import accuracy, macro_f1
from medslm.errors import DataError, Diverged
from medslm.evaluation.metrics import (
    argmax,
    class_scores,
    confusion,
    nll,
    require_distribution,
    require_exactly,
)

label = st.sampled_from(ANSWERS)
answered = st.lists(st.tuples(label, label), min_size=1, max_size=60)
partly_answered = st.lists(st.tuples(label, st.none() | label), min_size=1, max_size=60)
weight = st.floats(0.001, 1)
distribution = st.tuples(weight, weight, weight).map(
    lambda w: {a: x / sum(w) for a, x in zip(ANSWERS, w, strict=True)}
)


def as_sklearn(answers):
    """Give sklearn a word for no answer, since it takes no None."""
    return ["unanswered" if a is None else a for a in answers]


@given(partly_answered)
def test_accuracy_is_that_of_scikit_learn_with_unanswered_as_wrong(pairs):
    gold, answers = map(list, zip(*pairs, strict=True))

    assert accuracy(gold, answers) == pytest.approx(accuracy_score(gold, as_sklearn(answers)))


@given(answered)
def test_macro_f1_is_that_of_scikit_learn(pairs):
    gold, answers = map(list, zip(*pairs, strict=True))

    # exactly the official script's call, but for the warning where a class is never predicted
    expected = f1_score(gold, answers, average="macro", zero_division=0)
    assert macro_f1(gold, answers) == pytest.approx(expected, abs=1e-12)


@given(partly_answered)
def test_unanswered_questions_are_no_class_of_macro_f1_but_cost_recall(pairs):
    gold, answers = map(list, zip(*pairs, strict=True))
    present = [a for a in ANSWERS if a in gold or a in answers]

    expected = f1_score(gold, as_sklearn(answers), labels=present, average="macro", zero_division=0)
    assert macro_f1(gold, answers) == pytest.approx(expected, abs=1e-12)


@given(partly_answered)
def test_class_scores_are_those_of_scikit_learn(pairs):
    gold, answers = map(list, zip(*pairs, strict=True))

    expected = precision_recall_fscore_support(
        gold, as_sklearn(answers), labels=list(ANSWERS), zero_division=0
    )
    found = class_scores(gold, answers)
    for place, name in enumerate(ANSWERS):
        assert found[name] == pytest.approx([column[place] for column in expected], abs=1e-12)


@given(partly_answered)
def test_confusion_counts_every_question_once(pairs):
    gold, answers = map(list, zip(*pairs, strict=True))

    counts = confusion(gold, answers)

    assert [sum(row) for row in counts] == [gold.count(a) for a in ANSWERS]
    columns = [sum(row[i] for row in counts) for i in range(4)]
    assert columns == [answers.count(a) for a in (*ANSWERS, None)]


@given(st.lists(st.tuples(label, distribution), min_size=1, max_size=30))
def test_nll_is_the_log_loss_of_scikit_learn(rows):
    gold, probabilities = map(list, zip(*rows, strict=True))
    in_sklearn_order = sorted(ANSWERS)

    expected = log_loss(
        gold, [[p[a] for a in in_sklearn_order] for p in probabilities], labels=in_sklearn_order
    )
    assert nll(gold, probabilities) == pytest.approx(expected, rel=1e-9)


def test_a_certain_wrong_answer_costs_much_and_not_infinity():
    certain = {"yes": 1.0, "no": 0.0, "maybe": 0.0}

    assert nll(["no"], [certain]) == pytest.approx(36.04, abs=0.01)
    assert nll(["yes"], [certain]) == 0.0


def test_nll_is_none_when_a_row_has_no_probabilities():
    even = {"yes": 1 / 3, "no": 1 / 3, "maybe": 1 / 3}

    assert nll(["no", "yes"], [even, {}]) is None
    assert nll(["no", "yes"], [even, even]) == pytest.approx(math.log(3))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_that_of_scipy(counts):
    successes, n = counts

    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("share", "low", "high"),
    # known for n = 500 from published PubMedQA accuracies
    [(0.744, 0.704, 0.780), (0.754, 0.714, 0.790), (0.780, 0.742, 0.814), (0.810, 0.773, 0.842)],
)
def test_wilson_interval_of_published_accuracies(share, low, high):
    found = wilson(round(share * 500), 500)

    assert found == pytest.approx((low, high), abs=5e-4)


def test_wilson_interval_of_no_questions_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 1) != (0.0, 1.0)


@pytest.mark.parametrize(
    ("probabilities", "first"),
    [
        ({"maybe": 0.4, "no": 0.4, "yes": 0.2}, "no"),
        ({"maybe": 1 / 3, "no": 1 / 3, "yes": 1 / 3}, "yes"),
        ({"maybe": 0.5, "no": 0.3, "yes": 0.2}, "maybe"),
    ],
)
def test_of_equal_probabilities_the_first_of_yes_no_maybe_wins(probabilities, first):
    assert argmax(probabilities) == first


def test_probabilities_that_are_not_finite_mean_a_diverged_student():
    with pytest.raises(Diverged, match="PMID 7"):
        require_distribution({"yes": math.nan, "no": 0.5, "maybe": 0.5}, "PMID 7")


@pytest.mark.parametrize(
    "wrong",
    [
        {"yes": 0.6, "no": 0.4},
        {"yes": 0.6, "no": 0.3, "maybe": 0.3},
        {"yes": 1.2, "no": -0.3, "maybe": 0.1},
        {"yes": 0.0, "no": 0.0, "maybe": 0.0},
    ],
)
def test_probabilities_that_are_no_distribution_are_refused(wrong):
    with pytest.raises(DataError, match="PMID 7: probabilities are"):
        require_distribution(wrong, "PMID 7")


@pytest.mark.parametrize("right", [{}, {"yes": 0.6001, "no": 0.3, "maybe": 0.1}])
def test_probabilities_may_be_rounded_or_absent(right):
    assert require_distribution(right, "PMID 7") is None


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["1", "2"], r"1 missing \(3\)"),
        (["1", "2", "3", "4"], r"1 not in the split \(4\)"),
        (["1", "2", "3", "3"], r"1 repeated \(3\)"),
        (["9"], r"3 missing \(1, 2, 3\), 1 not in the split \(9\)"),
    ],
)
def test_pmids_must_be_all_and_only_the_expected(found, told):
    with pytest.raises(DataError, match=told):
        require_exactly(["1", "2", "3"], found, "none, test")


def test_the_expected_pmids_pass_in_any_order():
    assert require_exactly(["1", "2", "3"], ["3", "1", "2"], "none, test") is None


def test_at_most_five_pmids_are_named():
    with pytest.raises(DataError, match=r"8 missing \(1, 2, 3, 4, 5, \.\.\.\)"):
        require_exactly([str(i) for i in range(1, 9)], [], "none, test")


@pytest.mark.parametrize("measure", [class_scores, nll])
def test_no_questions_have_no_score(measure):
    with pytest.raises(DataError, match="no question to score"):
        measure([], [])


@pytest.mark.parametrize("measure", [class_scores, nll])
def test_sequences_of_unequal_length_are_refused(measure):
    with pytest.raises(DataError, match="2 gold answers but 1 predictions"):
        measure(["yes", "no"], ["yes"])
