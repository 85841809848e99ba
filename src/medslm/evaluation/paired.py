"""Paired statistics: two models, the same questions, every student (fold x seed) of each.

A question is what is drawn, with the answers of all its students: these are repeated measures of it, and
treating them as questions of their own would make every interval too narrow.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer, Prediction
from medslm.errors import DataError
from medslm.evaluation.bootstrap import macro_f1s, percentiles, weights
from medslm.evaluation.differences import Difference, Split, detectable_difference, holm
from medslm.evaluation.pooling import pool, rows_of

Gold = Mapping[str, Answer]


class Answered(NamedTuple):
    """A model's answers on one split: a row per question in the order of ``pmids``.

    A row holds the answers of the question's students: on test all of folds x seeds, on dev the
    seeds of its own fold. ``seeds`` has the seed of each place, ``pooled`` the answers that `score`
    counts. One that was not ``trained`` is the same with every seed.
    """

    name: str
    pmids: tuple[str, ...]
    students: tuple[tuple[Answer | None, ...], ...]
    seeds: tuple[int, ...]
    pooled: tuple[Answer | None, ...]
    trained: bool


class _Grid(NamedTuple):
    """Codes of gold (a column) and of both models' answers (a column per student), rows by PMID."""

    gold: Any
    one: Any
    other: Any


def answered(
    rows: Iterable[Prediction], split: Split, *, name: str, trained: bool = True
) -> Answered:
    """Return the answers on a split; DataError when not all questions have as many students."""
    by_pmid = rows_of(rows, split)
    if not by_pmid:
        raise DataError(f"{name}: has no predictions on {split}: run predict again")
    pmids = tuple(sorted(by_pmid))
    ordered = [sorted(by_pmid[pmid], key=lambda row: (row.fold, row.seed)) for pmid in pmids]
    seeds = tuple(row.seed for row in ordered[0])
    if odd := [
        p for p, own in zip(pmids, ordered, strict=True) if tuple(r.seed for r in own) != seeds
    ]:
        raise DataError(
            f"{name}: {split} PMID {odd[0]} was not answered by the same seeds as the others: "
            "run predict again"
        )
    one = pool(by_pmid)
    return Answered(
        name,
        pmids,
        tuple(tuple(row.answer for row in own) for own in ordered),
        seeds,
        tuple(one[pmid].answer for pmid in pmids),
        trained,
    )


def pooled(model: Answered) -> Answered:
    """Return a model of one student, which gives the answers that `score` counts."""
    return model._replace(students=tuple((answer,) for answer in model.pooled), seeds=(0,))


def differences(
    models: Mapping[str, Iterable[Prediction]],
    pairs: Sequence[tuple[str, str]],
    gold: Gold,
    *,
    split: Split,
    untrained: Collection[str] = (),
) -> tuple[Difference, ...]:
    """Return one minus other for each of ``pairs``, p-values corrected over all of them.

    ``untrained`` names models that no seed changes.
    """
    needed = dict.fromkeys(name for pair in pairs for name in pair)
    found = {
        name: answered(models[name], split, name=name, trained=name not in untrained)
        for name in needed
    }
    raw = [
        difference(found[one], found[other], gold, split=split, tests=len(pairs))
        for one, other in pairs
    ]
    corrected = holm([one.p for one in raw])
    return tuple(dataclasses.replace(one, p_holm=p) for one, p in zip(raw, corrected, strict=True))


def difference(
    one: Answered, other: Answered, gold: Gold, *, split: Split, tests: int = 1
) -> Difference:
    """Compare two models on the questions of a split; DataError unless these are the same ones.

    ``tests`` are the differences of the table that this one is part of.
    """
    if one.pmids != other.pmids:
        missing = sorted(set(one.pmids) ^ set(other.pmids))
        raise DataError(
            f"{one.name} and {other.name} answered different {split} questions ({len(missing)} differ, "
            f"for example {missing[0]}): they cannot be compared"
        )
    if unknown := [pmid for pmid in one.pmids if pmid not in gold]:
        raise DataError(
            f"{one.name}: {len(unknown)} {split} question(s) have no gold answer, for example PMID "
            f"{unknown[0]}: predictions and questions are of different runs, predict again"
        )
    n = len(one.pmids)
    grid, counts = _kinds(one, other, gold)
    gaps, whole = _gaps(grid)
    drawn = weights(counts)
    accuracy = percentiles(drawn @ gaps / (n * whole))
    macro = _macro_f1(grid, counts[None, :])
    macro_interval = percentiles(_macro_f1(grid, drawn))
    only_one, only_other = _discordant(one, other, gold)
    p = sign_flips(
        [gap for gap, count in zip(gaps.tolist(), counts, strict=True) for _ in range(count)]
    )
    return Difference(
        one=one.name,
        other=other.name,
        split=split,
        n=n,
        students=max(len(one.seeds), len(other.seeds)),
        accuracy=int(counts @ gaps) / (n * whole),
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        macro_f1=float(macro[0]),
        macro_f1_low=macro_interval.low,
        macro_f1_high=macro_interval.high,
        sd=_sd_over_seeds(one, other, gold),
        seeds=max(len(set(one.seeds)), len(set(other.seeds))),
        p=p,
        p_holm=p,
        only_one=only_one,
        only_other=only_other,
        p_pooled=mcnemar(only_one, only_other),
        detectable=detectable_difference(n, int(counts @ gaps**2) / (n * whole**2), tests=tests),
    )


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the exact two-sided p of McNemar's test: each discordant question a fair coin."""
    n, k = only_one + only_other, min(only_one, only_other)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return float(min(1.0, tail / 2 ** (n - 1) if n else 1.0))


def sign_flips(gaps: Sequence[int]) -> float:
    """Return the exact two-sided p of the sign-flip test of whole numbers, one per question.

    How often a sum as far from zero comes up when the two models are exchanged at random, question by
    question. With gaps of -1, 0 and 1 this is McNemar's exact test.
    """
    import numpy as np

    sizes = sorted(abs(gap) for gap in gaps if gap)
    total = sum(sizes)
    chance = np.zeros(2 * total + 1)  # of each sum from -total to total
    chance[total] = 1.0
    reach = 0
    for size in sizes:
        reach += size
        low, high = total - reach, total + reach + 1
        old = chance[low:high].copy()
        new = np.zeros_like(old)
        new[: len(old) - size] += old[size:]
        new[size:] += old[: len(old) - size]
        chance[low:high] = new / 2
    far = abs(sum(gaps))
    if not far:
        return 1.0
    return float(min(1.0, chance[: total - far + 1].sum() + chance[total + far :].sum()))


def _kinds(one: Answered, other: Answered, gold: Gold) -> tuple[_Grid, Any]:
    """Return the different rows of gold and answers, sorted, and how many questions have each."""
    import numpy as np

    code: dict[Answer | None, int] = {**{a: i for i, a in enumerate(ANSWERS)}, None: len(ANSWERS)}
    rows = np.array(
        [
            [code[gold[pmid]], *(code[a] for a in mine), *(code[a] for a in theirs)]
            for pmid, mine, theirs in zip(one.pmids, one.students, other.students, strict=True)
        ]
    )
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    cut = 1 + len(one.seeds)
    return _Grid(kinds[:, :1], kinds[:, 1:cut], kinds[:, cut:]), counts


def _gaps(grid: _Grid) -> tuple[Any, int]:
    """Return, per kind of question, one's share of right students less other's, and in what parts.

    Whole numbers, so that equal models differ by nothing at all and the test is exact.
    """
    mine, theirs = grid.one.shape[1], grid.other.shape[1]
    whole = math.lcm(mine, theirs)
    right = (grid.one == grid.gold).sum(1) * (whole // mine)
    return right - (grid.other == grid.gold).sum(1) * (whole // theirs), whole


def _macro_f1(grid: _Grid, drawn: Any) -> Any:
    """Return the difference of the mean macro-F1 over students, per row of ``drawn``."""
    return _mean_macro_f1(grid.gold, grid.one, drawn) - _mean_macro_f1(grid.gold, grid.other, drawn)


def _mean_macro_f1(gold: Any, given: Any, drawn: Any) -> Any:
    import numpy as np

    truth = [drawn @ (gold[:, 0] == i) for i in range(len(ANSWERS))]
    hits = [drawn @ ((given == i) & (gold == i)) for i in range(len(ANSWERS))]
    said = [drawn @ (given == i) for i in range(len(ANSWERS))]
    counted = [t[:, None] + s for t, s in zip(truth, said, strict=True)]
    return macro_f1s(np.stack(hits, -1), np.stack(counted, -1)).mean(1)


def _discordant(one: Answered, other: Answered, gold: Gold) -> tuple[int, int]:
    pairs = [
        (mine == gold[pmid], theirs == gold[pmid])
        for pmid, mine, theirs in zip(one.pmids, one.pooled, other.pooled, strict=True)
    ]
    return pairs.count((True, False)), pairs.count((False, True))


def _sd_over_seeds(one: Answered, other: Answered, gold: Gold) -> float | None:
    """Return how the difference in accuracy spreads over seeds.

    None unless one has several and the other has the same ones, or was not trained and has none.
    """
    mine, theirs = (_accuracy_by_seed(model, gold) for model in (one, other))
    if max(len(mine), len(theirs)) < 2:
        return None
    if not other.trained and len(theirs) == 1:
        return statistics.stdev(mine.values())
    if not one.trained and len(mine) == 1:
        return statistics.stdev(theirs.values())
    if set(mine) != set(theirs):
        return None
    return statistics.stdev(mine[seed] - theirs[seed] for seed in sorted(mine))


def _accuracy_by_seed(model: Answered, gold: Gold) -> dict[int, float]:
    right: dict[int, int] = defaultdict(int)
    asked: dict[int, int] = defaultdict(int)
    for pmid, answers in zip(model.pmids, model.students, strict=True):
        for seed, answer in zip(model.seeds, answers, strict=True):
            right[seed] += answer == gold[pmid]
            asked[seed] += 1
    return {seed: right[seed] / asked[seed] for seed in asked}
