"""Fits recover what was put in, and never look at the truth of a test question."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from medslm.data.records import ANSWERS
from medslm.data.scores import macro_f1
from medslm.evaluation.calibration import (
    MIN_OF_EACH,
    TAUS,
    Fit,
    bins,
    brier,
    ece,
    enough,
    fit,
)
from medslm.evaluation.metrics import argmax, nll
from medslm.evaluation.outoffold import calibrated
from tests.evaluation.worlds import answers_of, studies
from tests.factories import prediction

PRIOR = {"yes": 0.55, "no": 0.34, "maybe": 0.11}


def power(probabilities, exponent):
    weights = {a: p**exponent for a, p in probabilities.items()}
    return {a: w / sum(weights.values()) for a, w in weights.items()}


def simulated(n, *, temperature=1.0, seed=0):
    """Return truths and what a model says that knows their odds but is too sure by ``temperature``.

    At temperature 1 the probabilities are right: the truth is drawn from them.
    """
    rng = random.Random(seed)
    gold, said = [], []
    for _ in range(n):
        weights = {a: PRIOR[a] * math.exp(rng.gauss(0, 1.2)) for a in ANSWERS}
        true = {a: w / sum(weights.values()) for a, w in weights.items()}
        gold.append(rng.choices(ANSWERS, [true[a] for a in ANSWERS])[0])
        said.append(power(true, temperature))
    return gold, said


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_a_known_temperature_is_found_again(temperature):
    gold, said = simulated(2500, temperature=temperature)

    found = fit(gold, said)

    assert found.temperature == pytest.approx(temperature, rel=0.1)
    scaled = [found.scaled(p) for p in said]
    assert nll(gold, scaled) == min(
        nll(gold, [Fit(t, 0, found.prior).scaled(p) for p in said])
        for t in (found.temperature, found.temperature * 0.98, found.temperature * 1.02)
    )
    if temperature != 1:
        assert nll(gold, scaled) < nll(gold, said)
        assert brier(gold, scaled) < brier(gold, said)
        assert ece(gold, scaled) < ece(gold, said)


def test_a_known_tau_is_found_again():
    """Answers drawn alike often; the model then believes in a prior that took hold of it once, or half."""
    rng = random.Random(1)
    for tau in (0.5, 1.0):
        gold, said = [], []
        for _ in range(4000):
            truth = rng.choice(ANSWERS)
            lean = {a: 2.0 * (a == truth) + rng.gauss(0, 1.0) for a in ANSWERS}
            weights = {a: math.exp(lean[a] * 2) * PRIOR[a] ** tau for a in ANSWERS}
            gold.append(truth)
            said.append({a: w / sum(weights.values()) for a, w in weights.items()})
        prior = tuple(PRIOR[a] for a in ANSWERS)

        scores = {
            t: macro_f1(gold, [argmax(Fit(1, t, prior).adjusted(p)) for p in said]) for t in TAUS
        }

        assert max(scores, key=lambda t: scores[t]) == pytest.approx(tau, abs=0.2)


def test_tau_lifts_the_macro_f1_of_a_student_that_never_says_maybe():
    gold, said = simulated(3000, seed=2)
    flat = [{a: 0.7 * PRIOR[a] + 0.3 * p[a] for a in ANSWERS} for p in said]

    found = fit(gold, flat)
    plain = [argmax(p) for p in flat]
    lifted = [argmax(found.adjusted(p)) for p in flat]

    assert found.tau > 0
    assert macro_f1(gold, lifted) > macro_f1(gold, plain) + 0.05
    assert {"maybe"} <= set(lifted)


def test_where_the_rarest_answer_gains_nothing_tau_is_zero():
    """The control: a student that knows the answers needs no adjustment."""
    rng = random.Random(3)
    gold = rng.choices(ANSWERS, k=300)
    said = [{a: 0.9 if a == g else 0.05 for a in ANSWERS} for g in gold]

    assert fit(gold, said).tau == 0
    assert fit(gold, said).prior == pytest.approx([gold.count(a) / 300 for a in ANSWERS])


distribution = (
    st.tuples(*[st.floats(0, 1)] * 3)
    .filter(lambda d: sum(d) > 0.1)
    .map(lambda shares: dict(zip(ANSWERS, (s / sum(shares) for s in shares), strict=True)))
)


@given(distribution, st.floats(0.05, 20), st.floats(0, 2))
def test_a_temperature_changes_no_answer_and_both_give_probabilities(shares, temperature, tau):
    found = Fit(temperature, tau, (0.6, 0.3, 0.1))

    scaled, adjusted = found.scaled(shares), found.adjusted(shares)

    assert math.fsum(scaled.values()) == pytest.approx(1)
    assert math.fsum(adjusted.values()) == pytest.approx(1)
    assert scaled[argmax(shares)] == max(scaled.values())
    assert adjusted["maybe"] >= scaled["maybe"] - 1e-12  # the rarest only gains


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_a_student_that_is_always_right_and_sure_has_a_finite_fit(p):
    gold = list(ANSWERS) * 10
    rest = (1 - p) / 2
    found = fit(gold, [{a: p if a == g else rest for a in ANSWERS} for g in gold])

    assert 0.05 <= found.temperature <= 20


def test_brier_and_ece_of_known_cases():
    sure = [{"yes": 1.0, "no": 0.0, "maybe": 0.0}]
    assert (brier(["yes"], sure), ece(["yes"], sure)) == (0, 0)
    assert (brier(["no"], sure), ece(["no"], sure)) == (2, 1)
    half = [{"yes": 0.5, "no": 0.3, "maybe": 0.2}] * 4
    assert brier(["yes"] * 4, half) == pytest.approx(0.25 + 0.09 + 0.04)
    assert ece(["yes", "yes", "no", "no"], half) == pytest.approx(0)
    assert ece(["yes"] * 4, half) == pytest.approx(0.5)


@given(st.integers(0, 1000))
def test_brier_is_that_of_scikit_learn_and_bins_hold_every_question(seed):
    gold, said = simulated(60, temperature=1.5, seed=seed)
    shares = np.array([[p[a] for a in sorted(ANSWERS)] for p in said])

    theirs = brier_score_loss(gold, shares, labels=sorted(ANSWERS), scale_by_half=False)
    assert brier(gold, said) == pytest.approx(theirs, rel=1e-9)

    found = bins(gold, said)
    sure, right = shares.max(1), [argmax(p) == g for g, p in zip(gold, said, strict=True)]
    assert sum(b.n for b in found) == 60
    assert sum(b.n * b.accuracy for b in found) == pytest.approx(sum(right))
    place = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs((sure[place == i] - np.array(right)[place == i]).sum()) for i in range(10)]
    assert ece(gold, said) == pytest.approx(sum(gaps) / 60)


def test_ten_of_each_answer_are_enough_and_nine_are_not():
    gold = list(ANSWERS) * MIN_OF_EACH

    assert enough(gold)
    assert not enough(gold[:-1])


DEV = studies(1000, 200)
TEST = studies(5000, 60)
GOLD = {q.pmid: q.answer for q in (*DEV, *TEST)}


def rows(*, folds=2, seeds=(0,), strength=0.4):
    """Return the predictions of folds x seeds; every fold holds out its share of DEV."""
    made = []
    for fold in range(folds):
        for seed in seeds:
            made += answers_of(
                DEV[fold::folds], split="dev", fold=fold, seed=seed, strength=strength
            )
            made += answers_of(TEST, split="test", fold=fold, seed=seed, strength=strength)
    return made


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_no_test_label_changes_what_is_fitted(rng):
    other = {**GOLD, **{q.pmid: rng.choice(ANSWERS) for q in TEST}}

    one, two = calibrated(RAW, GOLD), calibrated(RAW, other)

    assert one is not None
    assert two is not None
    for field in ("temperature", "tau", "fitted_on", "across", "dev", "raw_dev"):
        assert getattr(one, field) == getattr(two, field)
    if any(other[q.pmid] != GOLD[q.pmid] for q in TEST):
        assert one.test != two.test


RAW = rows()


def test_a_dev_label_does_change_it():
    """The control of the test above."""
    other = {**GOLD, **{q.pmid: "maybe" for q in DEV[:60]}}

    one, two = calibrated(RAW, GOLD), calibrated(RAW, other)

    assert one is not None
    assert two is not None
    assert (one.temperature, one.tau) != (two.temperature, two.tau)


def test_a_dev_question_is_measured_by_fits_that_never_saw_its_fold():
    """Spoiling one fold's labels moves only the fits for the other fold."""
    from medslm.evaluation import outoffold

    spoiled = {**GOLD, **{q.pmid: "maybe" for q in DEV[0:40:2]}}
    dev = [row for row in RAW if row.split == "dev"]

    def fits(gold):
        return {
            fold: outoffold._fit([row for row in dev if row.fold != fold], gold) for fold in (0, 1)
        }

    before, after = fits(GOLD), fits(spoiled)
    assert before[0] == after[0]  # fitted on fold 1, which is as it was
    assert before[1].prior != after[1].prior


@pytest.mark.parametrize(("folds", "across"), [(1, "parts"), (2, "folds"), (5, "folds")])
def test_it_says_across_what_dev_was_cross_fitted(folds, across):
    found = calibrated(rows(folds=folds), GOLD)

    assert found is not None
    assert (found.across, found.fitted_on) == (across, 200)


def test_several_seeds_are_each_calibrated_and_then_averaged():
    found = calibrated(rows(seeds=(0, 1, 2)), GOLD)

    assert found is not None
    assert found.fitted_on == 200
    assert found.raw_test.nll < calibrated(rows(), GOLD).raw_test.nll


def test_the_order_of_predictions_changes_nothing():
    shuffled = random.Random(0).sample(RAW, len(RAW))

    assert calibrated(shuffled, GOLD) == calibrated(RAW, GOLD)


def test_too_few_dev_questions_or_no_probabilities_give_no_fit():
    few = [row for row in RAW if row.split == "test" or int(row.pmid) < 1090]
    bare = [dataclasses.replace(row, probabilities={}) for row in RAW]
    silent = [*RAW[:-1], dataclasses.replace(RAW[-1], answer=None)]

    assert calibrated(few, GOLD) is None  # nine "maybe"
    assert calibrated(bare, GOLD) is None
    assert calibrated(silent, GOLD) is None
    assert calibrated([prediction("1", split="dev")], {"1": "yes"}) is None


def test_an_answer_that_only_one_fold_has_gives_no_cross_fit():
    maybes = [row for row in RAW if row.split == "dev" and GOLD[row.pmid] == "maybe"]
    moved = {row.pmid: dataclasses.replace(row, fold=0) for row in maybes}
    together = [moved.get(row.pmid, row) if row.split == "dev" else row for row in RAW]

    assert calibrated(together, GOLD) is None
