"""The gain that promotion shows is the paired difference that `compare` shows."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.data.records import Prediction
from medslm.evaluation.paired import answered, difference
from medslm.tracking.gains import Interval, on_dev
from tests.tracking.project import predictions, questions

GOLD = {q.pmid: q.answer for q in questions("dev")}


def right(share: int) -> list[Prediction]:
    """Return predictions that are right on so many of the eight dev questions."""
    rows = predictions(0.5)
    return [
        dataclasses.replace(r, answer=GOLD[r.pmid]) if r.split == "dev" and i < share else r
        for i, r in enumerate(rows)
    ]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_gain_is_the_paired_difference(metric):
    expected = difference(
        answered(right(8), "dev", name="a"), answered(right(2), "dev", name="b"), GOLD, split="dev"
    )

    found = on_dev(right(8), right(2), GOLD, f"dev.{metric}")
    back = on_dev(right(2), right(8), GOLD, f"dev.{metric}")

    assert found is not None
    assert back is not None
    assert (found.gain, found.low, found.high, found.n) == (
        getattr(expected, metric),
        getattr(expected, f"{metric}_low"),
        getattr(expected, f"{metric}_high"),
        8,
    )
    assert found.gain == -back.gain > 0


def test_a_model_gains_nothing_over_itself_and_of_a_likelihood_no_interval_is_known():
    assert on_dev(right(5), right(5), GOLD, "dev.accuracy") == Interval(0.0, 0.0, 0.0, 8)
    assert on_dev(right(8), right(2), GOLD, "dev.nll") is None


def test_a_gain_whose_interval_holds_zero_says_so():
    assert str(Interval(0.1, 0.02, 0.2, 50)) == "+0.100 on 50 questions, 95 % +0.020 to +0.200"
    assert str(Interval(0.1, -0.02, 0.2, 50)).endswith(
        "to +0.200: not shown to be more than chance"
    )
