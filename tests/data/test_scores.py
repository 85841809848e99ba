from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.scores import accuracy, macro_f1

answers = st.sampled_from(["yes", "no", "maybe"])


@given(st.lists(st.tuples(answers, answers), min_size=1))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(pairs):
    from sklearn.metrics import accuracy_score, f1_score

    truth, given_answers = zip(*pairs, strict=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of absent classes
        expected = f1_score(truth, given_answers, average="macro")
    assert accuracy(truth, given_answers) == pytest.approx(accuracy_score(truth, given_answers))
    assert macro_f1(truth, given_answers) == pytest.approx(expected)


def test_no_answer_is_never_right():
    assert accuracy(["yes", "no"], ["yes", None]) == 0.5
    assert macro_f1(["yes", "yes"], ["yes", None]) == pytest.approx(2 / 3)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="0 true"):
        accuracy([], [])
