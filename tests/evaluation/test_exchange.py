"""The exchange test: as scipy's, right under the null, and seeing what is there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medslm.data.records import ANSWERS
from medslm.evaluation.exchange import macro_f1_p, nll_gain
from medslm.evaluation.pooling import Pooled


def answers(rng, gold, skill):
    return [g if rng.random() < skill else ANSWERS[rng.integers(3)] for g in gold]


def drawn(rng, n):
    return [ANSWERS[i] for i in rng.choice(3, size=n, p=[0.55, 0.34, 0.11])]


def macro(gold, given):
    from sklearn.metrics import f1_score

    return f1_score(gold, given, average="macro", zero_division=0.0)


def test_the_p_of_macro_f1_is_that_of_scipys_permutation_test():
    rng = np.random.default_rng(3)
    gold = drawn(rng, 40)
    one, other = answers(rng, gold, 0.7), answers(rng, gold, 0.3)

    theirs = stats.permutation_test(
        (np.array(one), np.array(other)),
        lambda a, b: macro(gold, list(a)) - macro(gold, list(b)),
        permutation_type="samples",
        n_resamples=1500,
        rng=np.random.default_rng(4),
    ).pvalue

    assert macro_f1_p(gold, one, other) == pytest.approx(theirs, abs=0.03)
    assert macro_f1_p(gold, other, one) == macro_f1_p(gold, one, other)
    assert macro_f1_p(gold, one, one) == 1.0


def test_under_the_null_one_in_twenty_is_below_a_twentieth_also_for_fifty_questions():
    """Where the bootstrap's interval would leave zero out too often."""
    rng = np.random.default_rng(6)
    ps = []
    for _ in range(200):
        gold = drawn(rng, 50)
        ps.append(macro_f1_p(gold, *(answers(rng, gold, 0.5) for _ in range(2))))

    assert np.mean(np.array(ps) < 0.05) <= 0.09
    assert 0.4 < np.mean(ps) < 0.62


def test_no_answer_is_wrong_whatever_the_gold_one():
    gold = ["yes", "no", "maybe"] * 12

    assert macro_f1_p(gold, gold, [None] * 36) == pytest.approx(1e-4, abs=1e-4)
    assert macro_f1_p(gold, [None] * 36, [None] * 36) == 1.0


def test_the_gain_in_likelihood_is_scipys_sign_flip_test_of_the_mean():
    rng = np.random.default_rng(8)
    pmids = [str(i) for i in range(60)]
    gold = {pmid: ANSWERS[rng.integers(3)] for pmid in pmids}

    def sure(share):
        rows = {p: dict(zip(ANSWERS, rng.dirichlet([2, 2, 2]), strict=True)) for p in pmids}
        for pmid, row in rows.items():
            row[gold[pmid]] += share
        return {pmid: Pooled(None, row) for pmid, row in rows.items()}

    ours, theirs = sure(0.6), sure(0.4)
    gaps = np.array(
        [
            np.log(ours[p].probabilities[gold[p]] / sum(ours[p].probabilities.values()))
            - np.log(theirs[p].probabilities[gold[p]] / sum(theirs[p].probabilities.values()))
            for p in sorted(pmids)
        ]
    )
    found = nll_gain(gold, ours, theirs)
    expected = stats.permutation_test(
        (gaps,),
        np.mean,
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(1),
        vectorized=True,
    ).pvalue
    ends = stats.bootstrap(
        (gaps,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(2)
    ).confidence_interval

    assert found is not None
    assert found.gain == pytest.approx(gaps.mean())
    assert found.p == pytest.approx(expected, abs=0.02)
    assert found.interval == pytest.approx((ends.low, ends.high), abs=0.02)
    assert nll_gain(gold, ours, {p: Pooled("yes", {}) for p in pmids}) is None
