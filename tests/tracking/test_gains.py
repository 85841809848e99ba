"""The gain that promotion shows is the paired difference that `compare` shows, with an exact p."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.data.records import Prediction
from medslm.evaluation.paired import answered, difference
from medslm.evaluation.score import score
from medslm.tracking.gains import Gained, on_dev
from tests.tracking.project import predictions, questions

GOLD = {q.pmid: q.answer for q in questions("dev")}
TEST = {q.pmid: q.answer for q in questions("test")}


def right(share: int, sure: float = 0.8) -> list[Prediction]:
    """Return predictions that are right on so many of the eight dev questions."""
    rows = predictions(0.5)
    rest = (1 - sure) / 2
    return [
        dataclasses.replace(
            r,
            answer=GOLD[r.pmid],
            probabilities={**dict.fromkeys(r.probabilities, rest), GOLD[r.pmid]: sure},
        )
        if r.split == "dev" and i < share
        else r
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
    assert found.p == back.p


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "nll"])
def test_of_several_students_it_is_the_gain_of_their_pooled_answers(metric):
    """Promotion is decided by these: each student alone may be worse where their mean is better."""
    several = [
        dataclasses.replace(row, seed=seed)
        for seed, share in enumerate((8, 2, 8))
        for row in right(share, sure=0.6 + 0.1 * seed)
    ]
    sheet, rival = (
        score(rows, variant="x", gold=GOLD | TEST, test_pmids=[*TEST], dev_pmids={0: [*GOLD]})
        for rows in (several, right(1))
    )

    found = on_dev(several, right(1), GOLD, f"dev.{metric}")

    assert found is not None
    gap = getattr(sheet.dev, metric) - getattr(rival.dev, metric)
    assert found.gain == pytest.approx(-gap if metric == "nll" else gap, abs=1e-6)
    assert found.low <= found.gain <= found.high


def test_a_lower_negative_log_likelihood_is_a_gain():
    found = on_dev(right(8, 0.9), right(8, 0.6), GOLD, "dev.nll")
    back = on_dev(right(8, 0.6), right(8, 0.9), GOLD, "dev.nll")

    assert found is not None
    assert back is not None
    assert found.gain == pytest.approx(0.4055, abs=1e-4)  # ln 1.5
    assert (found.gain, found.low) == (-back.gain, -back.high)
    assert found.low > 0
    assert found.p == pytest.approx(2 / 2**8, abs=0.003)  # all eight in one direction


def test_a_model_gains_nothing_over_itself_and_nothing_is_known_of_answers_without_probabilities():
    mute = [dataclasses.replace(r, probabilities={}) for r in right(5)]

    for metric in ("accuracy", "macro_f1", "nll"):
        assert on_dev(right(5), right(5), GOLD, f"dev.{metric}") == Gained(0.0, 0.0, 0.0, 1.0, 8)
    assert on_dev(right(8), mute, GOLD, "dev.nll") is None
    assert on_dev(right(8), mute, GOLD, "dev.accuracy") is not None


def test_p_says_whether_a_gain_is_shown_and_few_questions_are_said():
    assert str(Gained(0.1, 0.02, 0.2, 0.01, 500)) == (
        "+0.100 on 500 questions, 95 % +0.020 to +0.200, p .010"
    )
    assert str(Gained(0.08, 0.02, 0.16, 0.125, 50)) == (
        "+0.080 on 50 questions, 95 % +0.020 to +0.160 (too narrow for so few), p .12: "
        "not shown to be more than chance"
    )
