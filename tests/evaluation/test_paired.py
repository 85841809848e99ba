"""Paired statistics: equal to scipy and statsmodels, blind to order, and with the coverage they claim."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from medslm.data.intervals import wilson
from medslm.data.records import ANSWERS, Prediction
from medslm.errors import DataError
from medslm.evaluation.bootstrap import macro_f1s, weights
from medslm.evaluation.differences import detectable_difference, holm
from medslm.evaluation.paired import answered, difference, differences, mcnemar, sign_flips
from tests.evaluation.worlds import answers_of, studies
from tests.factories import prediction

QUESTIONS = studies(5000, 60)
GOLD = {q.pmid: q.answer for q in QUESTIONS}
counts = st.integers(0, 60)


def cells(strength, *, folds=(0,), seeds=(0,), questions=QUESTIONS):
    return [
        row
        for fold, seed in itertools.product(folds, seeds)
        for row in answers_of(questions, split="test", fold=fold, seed=seed, strength=strength)
    ]


def compared(one, other, *, gold=GOLD, split="test"):
    names = {"one": one, "other": other}
    return difference(
        *(answered(rows, split, name=n) for n, rows in names.items()), gold, split=split
    )


@given(counts, counts)
def test_mcnemar_is_that_of_statsmodels_and_the_binomial_test_of_scipy(b, c):
    theirs = their_mcnemar([[3, b], [c, 9]], exact=True).pvalue

    assert mcnemar(b, c) == pytest.approx(theirs, rel=1e-9)
    if b + c:
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)


@given(counts, counts, st.integers(0, 20), st.integers(1, 5))
def test_the_sign_flip_test_with_one_student_each_is_mcnemar(b, c, same, scale):
    gaps = [scale] * b + [-scale] * c + [0] * same

    assert sign_flips(gaps) == pytest.approx(mcnemar(b, c), abs=1e-12)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_sign_flip_test_is_what_trying_all_signs_gives(gaps):
    sums = [
        abs(sum(s * abs(g) for s, g in zip(signs, gaps, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(gaps))
    ]

    expected = sum(total >= abs(sum(gaps)) for total in sums) / len(sums)
    assert sign_flips(gaps) == pytest.approx(expected, abs=1e-12)


def test_the_sign_flip_test_agrees_with_scipys_permutation_test():
    rng = np.random.default_rng(3)
    gaps = rng.integers(-3, 5, size=60)

    theirs = stats.permutation_test(
        (gaps, np.zeros_like(gaps)),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=rng,
    ).pvalue

    assert sign_flips(gaps.tolist()) == pytest.approx(theirs, abs=0.01)


@settings(max_examples=12)  # theirs takes 50 ms and more
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(ps):
    theirs = multipletests(ps, method="holm")[1]

    assert holm(ps) == pytest.approx(list(theirs), abs=1e-12)


@given(st.integers(20, 3000), st.floats(0.02, 0.9))
def test_the_detectable_difference_solves_miettinens_equation(n, discordance):
    z, w = stats.norm.ppf([0.975, 0.8])

    def needed(gap):
        return (z * discordance**0.5 + w * max(0.0, discordance - gap**2) ** 0.5) / gap - n**0.5

    found = detectable_difference(n, discordance)
    if found < discordance**0.5:  # else no difference can be found with so few questions
        theirs = optimize.brentq(needed, 1e-6, discordance**0.5)
        assert found == pytest.approx(theirs, rel=1e-6)


def test_the_detectable_difference_is_found_four_times_in_five():
    n, discordance = 500, 0.2
    gap = detectable_difference(n, discordance)
    rng = np.random.default_rng(1)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    drawn = rng.multinomial(n, shares, size=2000)

    found = np.mean([mcnemar(b, c) < 0.05 for b, c, _ in drawn.tolist()])

    assert 0.74 < found < 0.83  # the exact test is a little more careful than the formula's
    none = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], size=2000)
    assert np.mean([mcnemar(b, c) < 0.05 for b, c, _ in none.tolist()]) <= 0.05


def test_the_difference_is_that_of_the_scores():
    one, other = cells(0.6), cells(0.2)

    found = compared(one, other)

    truth = [GOLD[q.pmid] for q in QUESTIONS]
    mine, theirs = ([row.answer for row in rows] for rows in (one, other))
    share = [np.mean([t == a for t, a in zip(truth, rows, strict=True)]) for rows in (mine, theirs)]
    assert found.accuracy == pytest.approx(share[0] - share[1])
    macro = [f1_score(truth, rows, average="macro") for rows in (mine, theirs)]
    assert found.macro_f1 == pytest.approx(macro[0] - macro[1])
    assert found.only_one - found.only_other == pytest.approx(60 * found.accuracy)
    assert found.p == pytest.approx(found.p_pooled)
    assert found.accuracy_low < found.accuracy < found.accuracy_high
    assert found.macro_f1_low < found.macro_f1 < found.macro_f1_high


def test_the_other_way_round_is_the_same_difference_with_the_other_sign():
    there, back = compared(cells(0.6), cells(0.2)), compared(cells(0.2), cells(0.6))

    assert (there.accuracy, there.macro_f1) == pytest.approx((-back.accuracy, -back.macro_f1))
    assert (there.p, there.detectable) == pytest.approx((back.p, back.detectable))
    assert there.accuracy_low == pytest.approx(-back.accuracy_high, abs=0.02)
    assert (there.only_one, there.only_other) == (back.only_other, back.only_one)


def test_a_model_differs_from_itself_by_nothing():
    found = compared(cells(0.5), cells(0.5))

    assert (found.accuracy, found.macro_f1, found.p, found.p_pooled) == (0, 0, 1, 1)
    assert (found.only_one, found.only_other, found.detectable) == (0, 0, 0)


def test_the_order_of_the_predictions_changes_no_digit():
    one, other = cells(0.6, folds=(0, 1), seeds=(0, 1)), cells(0.3, folds=(0, 1), seeds=(0, 1))
    shuffled = [random.Random(5).sample(rows, len(rows)) for rows in (one, other)]

    assert compared(*shuffled) == compared(one, other)
    assert compared(cells(0.7), other) != compared(one, other)


def test_students_are_repeated_measures_of_a_question_and_not_more_questions():
    """The same student four times over says no more than once."""
    once = compared(cells(0.6), cells(0.2))
    copies = [
        [
            prediction(pmid=r.pmid, seed=seed, probabilities=r.probabilities, answer=r.answer)
            for seed in range(4)
            for r in rows
        ]
        for rows in (cells(0.6), cells(0.2))
    ]

    again = compared(*copies)

    assert (again.n, again.students, again.sd) == (60, 4, 0)
    for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1_low", "p", "detectable"):
        assert getattr(again, name) == pytest.approx(getattr(once, name)), name


def test_several_students_are_averaged_and_their_seeds_spread_is_told():
    seeds = (0, 1, 2)
    one, other = cells(0.6, seeds=seeds), cells(0.2, seeds=seeds)

    found = compared(one, other)

    alone = [compared(cells(0.6, seeds=[s]), cells(0.2, seeds=[s])).accuracy for s in seeds]
    assert found.accuracy == pytest.approx(np.mean(alone))
    assert found.sd == pytest.approx(np.std(alone, ddof=1))
    assert found.students == 3
    assert (found.seeds, compared(cells(0.6), cells(0.2)).seeds) == (3, 1)
    assert compared(cells(0.6), cells(0.2)).sd is None
    assert compared(one, cells(0.2, seeds=(0, 1, 3))).sd is None  # no pairs of seeds
    assert compared(one, cells(0.2)).sd is None  # its one seed could have been another
    [untuned] = differences(
        {"one": one, "other": cells(0.2)},
        [("one", "other")],
        GOLD,
        split="test",
        untrained=["other"],
    )
    mine = [compared(cells(0.6, seeds=[s]), cells(0.2)).accuracy for s in seeds]
    assert untuned.sd == pytest.approx(np.std(mine, ddof=1))  # which no seed changes


def students(rng, skills):
    """Return right or wrong answers to 150 questions by students of these skills."""
    yes, no = {"yes": 0.6, "no": 0.3, "maybe": 0.1}, {"yes": 0.3, "no": 0.6, "maybe": 0.1}
    return [
        Prediction("test", 0, seed, str(i), yes if right else no, "yes" if right else "no")
        for seed, skill in enumerate(skills)
        for i, right in enumerate(rng.random(150) < skill)
    ]


def test_what_only_seeds_bring_is_seldom_shown():
    """Two equal training sets, students that spread by five points: questions alone say too much."""
    rng = np.random.default_rng(5)
    gold = {str(i): "yes" for i in range(150)}
    drawn = [
        compared(*(students(rng, rng.normal(0.6, 0.05, size=3)) for _ in range(2)), gold=gold)
        for _ in range(60)
    ]

    assert np.mean([d.is_shown_over_seeds for d in drawn]) <= 0.08
    assert np.mean([d.is_shown for d in drawn]) > 0.2


def test_more_tests_need_a_larger_difference():
    one = detectable_difference(500, 0.2)

    assert detectable_difference(500, 0.2, tests=1) == one
    assert (
        one < detectable_difference(500, 0.2, tests=3) < detectable_difference(500, 0.2, tests=10)
    )
    rows = {"a": cells(0.6), "b": cells(0.2), "c": cells(0.4)}
    both = differences(rows, [("a", "b"), ("a", "c")], GOLD, split="test")
    [alone] = differences(rows, [("a", "b")], GOLD, split="test")
    assert both[0].detectable > alone.detectable


@pytest.mark.parametrize("tests", [1, 10])
def test_the_detectable_difference_is_found_four_times_in_five_after_the_correction(tests):
    n, discordance = 500, 0.2
    gap = detectable_difference(n, discordance, tests=tests)
    shares = [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance]
    drawn = np.random.default_rng(2).multinomial(n, shares, size=1000)

    found = np.mean([mcnemar(b, c) * tests < 0.05 for b, c, _ in drawn.tolist()])

    assert 0.73 < found < 0.84


def test_a_model_of_one_student_can_be_compared_with_one_of_many():
    one, other = cells(0.6, folds=(0, 1), seeds=(0, 1, 2)), cells(0.2, folds=(0, 1))

    found = compared(one, other)

    mine = [np.mean([r.answer == GOLD[r.pmid] for r in rows]) for rows in (one, other)]
    assert found.accuracy == pytest.approx(mine[0] - mine[1])
    assert 0 < found.p <= 1


def test_on_dev_a_question_is_answered_by_its_own_fold():
    halves = {0: QUESTIONS[:30], 1: QUESTIONS[30:]}
    one, other = (
        [
            row
            for fold, own in halves.items()
            for seed in (0, 1)
            for row in answers_of(own, split="dev", fold=fold, seed=seed, strength=strength)
        ]
        for strength in (0.6, 0.2)
    )

    found = compared(one, other, split="dev")

    assert (found.n, found.students, found.split) == (60, 2, "dev")
    with pytest.raises(DataError, match="dev PMID 5030 was not answered by the same seeds"):
        compared([r for r in one if (r.fold, r.seed) != (1, 1)], other, split="dev")


def test_other_questions_are_not_compared():
    with pytest.raises(DataError, match=r"different test questions \(1 differ, for example 5059\)"):
        compared(cells(0.5), cells(0.5, questions=QUESTIONS[:-1]))
    with pytest.raises(DataError, match="one: has no predictions on dev"):
        compared(cells(0.5), cells(0.5), split="dev")
    fewer = {pmid: answer for pmid, answer in GOLD.items() if pmid != "5007"}
    with pytest.raises(
        DataError, match=r"one: 1 test question.* no gold answer, for example PMID 5007"
    ):
        compared(cells(0.5), cells(0.5), gold=fewer)


def test_all_tests_of_a_table_are_counted():
    models = {name: cells(s) for name, s in {"a": 0.1, "b": 0.35, "c": 0.9}.items()}
    pairs = [("b", "a"), ("c", "a"), ("c", "b")]

    found = differences(models, pairs, GOLD, split="test")

    assert [(d.one, d.other) for d in found] == pairs
    assert [d.p_holm for d in found] == holm([d.p for d in found])
    assert [d.p_holm for d in found] != [d.p for d in found]
    alone = differences(models, pairs[:1], GOLD, split="test")
    assert alone[0].p_holm == alone[0].p == found[0].p


@settings(max_examples=12)
@given(st.integers(0, 10_000))
def test_intervals_are_those_of_scipys_bootstrap(seed):
    rng = np.random.default_rng(seed)
    strengths = rng.uniform(0.1, 0.9, size=2)
    one, other = (cells(s, seeds=(seed,)) for s in strengths)
    gaps = np.array(
        [
            (a.answer == GOLD[a.pmid]) * 1.0 - (b.answer == GOLD[b.pmid])
            for a, b in zip(one, other, strict=True)
        ]
    )
    found = compared(one, other)
    if not gaps.std():
        return
    theirs = stats.bootstrap(
        (gaps,), np.mean, n_resamples=5000, method="percentile", rng=rng, vectorized=True
    ).confidence_interval

    # a question in sixty is .017; the ends of two bootstraps differ by less
    assert found.accuracy_low == pytest.approx(theirs.low, abs=0.018)
    assert found.accuracy_high == pytest.approx(theirs.high, abs=0.018)


TRUE_SHARES = {"yes": 0.55, "no": 0.34, "maybe": 0.11}
SIMULATIONS, DRAWS, N = 2000, 400, 500


def simulated_tables(rng, shares):
    """Return tables of counts, one per simulated test set of N questions, and their kinds' shares."""
    return rng.multinomial(N, shares.ravel(), size=SIMULATIONS).reshape(SIMULATIONS, *shares.shape)


def macro_of(tables):
    """Return macro-F1 of tables whose last two axes are gold and answer."""
    hits = np.stack([tables[..., i, i] for i in range(3)], -1)
    counted = tables.sum(-1)[..., :3] + tables.sum(-2)[..., :3]
    return macro_f1s(hits, counted)


def coverage(truth, resampled):
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
    return np.mean((low <= truth) & (truth <= high))


def joint(skill_one, skill_other, shared):
    """Return the shares of (gold, one's answer, other's answer); ``shared`` is how often they agree."""
    shares = np.zeros((3, 3, 3))
    for g, answer in enumerate(ANSWERS):
        own, theirs = (
            np.array([s if i == g else (1 - s) / 2 for i in range(3)])
            for s in (skill_one[g], skill_other[g])
        )
        both = shared * np.diag(own) + (1 - shared) * np.outer(own, theirs)
        shares[g] = TRUE_SHARES[answer] * both
    return shares


SHARES = joint((0.8, 0.55, 0.2), (0.75, 0.5, 0.25), 0.5)


def test_intervals_of_accuracy_and_macro_f1_cover_the_truth_95_times_in_100():
    rng = np.random.default_rng(7)
    shares = SHARES.sum(2)
    tables = simulated_tables(rng, shares)
    right = tables[:, range(3), range(3)].sum(1)
    ends = [wilson(int(k), N) for k in right]
    share = shares.trace()

    assert 0.93 <= np.mean([low <= share <= high for low, high in ends]) <= 0.97

    drawn = np.stack(
        [
            macro_of(weights(t.ravel(), resamples=DRAWS, seed=i).reshape(DRAWS, 3, 3))
            for i, t in enumerate(tables)
        ]
    )
    assert 0.93 <= coverage(macro_of(shares), drawn) <= 0.97


def test_intervals_of_paired_differences_cover_the_truth_95_times_in_100():
    rng = np.random.default_rng(8)
    tables = simulated_tables(rng, SHARES)
    kinds = np.indices(SHARES.shape).reshape(3, -1)
    gaps = (kinds[1] == kinds[0]).astype(int) - (kinds[2] == kinds[0]).astype(int)
    drawn = [weights(t.ravel(), resamples=DRAWS, seed=i) for i, t in enumerate(tables)]

    accuracy = np.stack([own @ gaps / N for own in drawn])
    assert 0.93 <= coverage(SHARES.ravel() @ gaps, accuracy) <= 0.97

    def gap(table):
        return macro_of(table.sum(-1)) - macro_of(table.sum(-2))

    macro = np.stack([gap(own.reshape(DRAWS, 3, 3, 3)) for own in drawn])
    assert 0.93 <= coverage(gap(SHARES), macro) <= 0.97
    # control: with a third of the questions hidden from the width, the check would fail
    narrow = accuracy.mean(1, keepdims=True) + (accuracy - accuracy.mean(1, keepdims=True)) * 0.7
    assert coverage(SHARES.ravel() @ gaps, narrow) < 0.9
