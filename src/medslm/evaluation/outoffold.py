"""Calibration of a variant by its out-of-fold predictions, and what it brings, measured honestly.

Out of fold are the dev rows of a variant's predictions: each is by students of the fold that held the
question out, one row per seed. Every row counts in the fit, and what is fitted is applied to each
student before their probabilities are averaged; the mean of students that differ is then less sure
than right, which the numbers show. The truth of test questions is looked at for the
numbers only, never for a fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from medslm.data.records import ANSWERS, Answer, Prediction
from medslm.data.scores import accuracy, macro_f1
from medslm.evaluation.calibration import Fit, Probabilities, bins, brier, ece, enough, fit
from medslm.evaluation.metrics import argmax, nll
from medslm.evaluation.pooling import pool, rows_of
from medslm.evaluation.sheet import Calibrated, Reliability

PARTS = 10  # of a single fold

Gold = Mapping[str, Answer]
Map = Callable[[Prediction], Probabilities]


def calibrated(predictions: Iterable[Prediction], gold: Gold) -> Calibrated | None:
    """Return the fit on all dev rows and its numbers: on test, and on dev by fits on the other folds.

    With one fold, by fits on nine of ten parts of it. None where a question has no answer or no
    probabilities, and where dev has fewer than ten questions of an answer, with or without one of
    these parts.
    """
    rows = sorted(predictions, key=lambda row: (row.split, row.pmid, row.fold, row.seed))
    if not all(row.probabilities and row.answer for row in rows):
        return None
    dev = [row for row in rows if row.split == "dev"]
    test = [row for row in rows if row.split == "test"]
    across, part_of = _parts(dev, gold)
    if not enough([gold[pmid] for pmid in rows_of(dev, "dev")]):
        return None
    whole = _fit(dev, gold)
    parts = sorted(set(part_of.values()))
    rest = {part: [row for row in dev if part_of[row.pmid] != part] for part in parts}
    if not all({gold[row.pmid] for row in others} == set(ANSWERS) for others in rest.values()):
        return None
    held_out = {part: _fit(others, gold) for part, others in rest.items()}

    def own(row: Prediction) -> Fit:
        return held_out[part_of[row.pmid]]

    return Calibrated(
        temperature=whole.temperature,
        tau=whole.tau,
        fitted_on=len(part_of),
        across="folds" if across else "parts",
        dev=_measure(dev, gold, lambda r: own(r).adjusted(_of(r)), lambda r: own(r).scaled(_of(r))),
        test=_measure(test, gold, lambda r: whole.adjusted(_of(r)), lambda r: whole.scaled(_of(r))),
        raw_dev=_measure(dev, gold, _of, _of),
        raw_test=_measure(test, gold, _of, _of),
    )


def _parts(dev: Sequence[Prediction], gold: Gold) -> tuple[bool, dict[str, int]]:
    """Return which part each question is held out with: its fold, or a tenth of the only fold.

    Tenths are dealt out answer by answer, so that each has its share of the rare ones.
    """
    fold_of = {row.pmid: row.fold for row in dev}
    if len(set(fold_of.values())) > 1:
        return True, fold_of
    dealt = sorted(fold_of, key=lambda pmid: (ANSWERS.index(gold[pmid]), pmid))
    return False, {pmid: place % PARTS for place, pmid in enumerate(dealt)}


def _fit(rows: Sequence[Prediction], gold: Gold) -> Fit:
    return fit([gold[row.pmid] for row in rows], [row.probabilities for row in rows])


def _of(row: Prediction) -> Probabilities:
    return row.probabilities


def _measure(rows: Sequence[Prediction], gold: Gold, answers: Map, shares: Map) -> Reliability:
    """Measure the answers that one mapping of the probabilities gives and the shares of another."""
    given, likely = _pooled(rows, answers), _pooled(rows, shares)
    pmids = sorted(likely)
    truth = [gold[pmid] for pmid in pmids]
    chosen = [argmax(given[pmid]) for pmid in pmids]
    found = [likely[pmid] for pmid in pmids]
    loss = nll(truth, found)
    assert loss is not None  # every row has probabilities
    return Reliability(
        accuracy=accuracy(truth, chosen),
        macro_f1=macro_f1(truth, chosen),
        nll=loss,
        brier=brier(truth, found),
        ece=ece(truth, found),
        bins=tuple(bins(truth, found)) if rows[0].split == "test" else (),
    )


def _pooled(rows: Sequence[Prediction], shares: Map) -> dict[str, Probabilities]:
    """Return each question's mean probabilities after ``shares`` was applied to every student's."""
    mapped = [dataclasses.replace(row, probabilities=dict(shares(row))) for row in rows]
    mapped = [dataclasses.replace(row, answer=argmax(row.probabilities)) for row in mapped]
    found = pool(rows_of(mapped, rows[0].split))
    return {pmid: pooled.probabilities for pmid, pooled in found.items()}
