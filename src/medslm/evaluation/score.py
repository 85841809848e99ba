"""From predictions to a score sheet: check that every cell is complete, pool the cells, measure."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.intervals import wilson
from medslm.data.records import ANSWERS, Answer, Prediction, Question
from medslm.data.scores import accuracy, macro_f1
from medslm.errors import DataError
from medslm.evaluation.bootstrap import macro_f1_interval, mean_interval
from medslm.evaluation.calibration import Bin, bins, brier, ece
from medslm.evaluation.metrics import (
    class_scores,
    confusion,
    nll,
    require_distribution,
    require_exactly,
    require_some,
)
from medslm.evaluation.outoffold import calibrated
from medslm.evaluation.pooling import Pooled, pool, rows_of
from medslm.evaluation.sheet import Cell, Part, Sheet, Spread
from medslm.evaluation.testset import digest_of, name_of


class CellKey(NamedTuple):
    """A student's place in the grid of folds and seeds."""

    fold: int
    seed: int


def score(
    predictions: Iterable[Prediction],
    *,
    variant: str,
    gold: Mapping[str, Answer],
    test_pmids: Sequence[str],
    dev_pmids: Mapping[int, Sequence[str]],
) -> Sheet:
    """Measure a variant on test and on dev.

    Test: the probabilities of all cells are averaged per question. Dev: every question is answered
    by the students of its own fold, which never trained on it, averaged over seeds. With one cell
    these are that cell's own answers. What calibration adds stands apart: see `outoffold`.

    DataError when a cell of folds x seeds is missing, or its PMIDs are not all and only those of
    its split; Diverged when a probability is not finite.
    """
    cells = _by_cell(predictions, variant)
    _require_complete(cells, variant=variant, test_pmids=test_pmids, dev_pmids=dev_pmids)
    _require_gold(gold, itertools.chain(test_pmids, *dev_pmids.values()))
    single = [_cell(key, rows, gold) for key, rows in sorted(cells.items())]
    everything = list(itertools.chain.from_iterable(cells.values()))
    test = pool(rows_of(everything, "test"))
    test_gold = {pmid: gold[pmid] for pmid in test_pmids}
    return Sheet(
        variant=variant,
        test_set=name_of(test_gold),
        test_digest=digest_of(test_gold),
        dev=part(pool(rows_of(everything, "dev")), gold),
        test=part(test, gold),
        bins=_bins(test, gold),
        calibrated=calibrated(everything, gold),
        spread=_spread(single),
        cells=tuple(single),
    )


def submission(predictions: Iterable[Prediction], *, variant: str) -> dict[str, Answer]:
    """Return {pmid: answer} for the test split, the file the official evaluation script reads.

    The script wants an answer to every question and nothing may be made up for an unanswered one,
    so those raise DataError.
    """
    pooled = pool(rows_of(predictions, "test"))
    answered = {pmid: row.answer for pmid, row in sorted(pooled.items()) if row.answer is not None}
    if unanswered := sorted(pooled.keys() - answered.keys()):
        raise DataError(
            f"{variant}: no submission: it needs an answer to all {len(pooled)} test questions and "
            f"{len(unanswered)} have none ({', '.join(unanswered[:5])}); leave --submission out"
        )
    return answered


def gold_answers(questions: Iterable[Question]) -> dict[str, Answer]:
    """Return the gold answer by PMID; DataError if a question has none or two."""
    gold: dict[str, Answer] = {}
    for question in questions:
        if question.answer is None:
            raise DataError(
                f"PMID {question.pmid}: has no gold answer: only labelled data can be scored"
            )
        if gold.setdefault(question.pmid, question.answer) != question.answer:
            raise DataError(f"PMID {question.pmid}: has two gold answers: split the data again")
    return gold


def part(pooled: Mapping[str, Pooled], gold: Mapping[str, Answer]) -> Part:
    """Return every metric of one split."""
    pmids = sorted(pooled)
    truth = [gold[pmid] for pmid in pmids]
    answers = [pooled[pmid].answer for pmid in pmids]
    require_some(truth, answers)
    interval = wilson(sum(g == a for g, a in zip(truth, answers, strict=True)), len(truth))
    scores = class_scores(truth, answers)
    yes, no, maybe = (scores[label] for label in ANSWERS)
    counts = confusion(truth, answers)
    macro = macro_f1_interval(counts)
    shares = [pooled[pmid].probabilities for pmid in pmids]
    return Part(
        n=len(truth),
        accuracy=accuracy(truth, answers),
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        macro_f1=macro_f1(truth, answers),
        macro_f1_low=macro.low,
        macro_f1_high=macro.high,
        precision_yes=yes.precision,
        precision_no=no.precision,
        precision_maybe=maybe.precision,
        recall_yes=yes.recall,
        recall_no=no.recall,
        recall_maybe=maybe.recall,
        f1_yes=yes.f1,
        f1_no=no.f1,
        f1_maybe=maybe.f1,
        **_likelihood(truth, shares),
        unanswered=sum(answer is None for answer in answers),
        confusion=counts,
    )


def _likelihood(
    truth: Sequence[Answer], shares: Sequence[Mapping[Answer, float]]
) -> dict[str, float | None]:
    """Return NLL, Brier score and ECE, the first two with intervals; None where there are no shares."""
    names = ("nll", "nll_low", "nll_high", "brier", "brier_low", "brier_high", "ece")
    found: dict[str, float | None] = dict.fromkeys(names)
    if not all(shares):
        return found
    for name, scored in (("nll", nll), ("brier", brier)):
        each = [scored([gold], [row]) or 0.0 for gold, row in zip(truth, shares, strict=True)]
        found[name] = scored(truth, shares)
        found[f"{name}_low"], found[f"{name}_high"] = mean_interval(each)
    return {**found, "ece": ece(truth, shares)}


def _bins(pooled: Mapping[str, Pooled], gold: Mapping[str, Answer]) -> tuple[Bin, ...]:
    if not all(row.probabilities for row in pooled.values()):
        return ()
    pmids = sorted(pooled)
    return tuple(bins([gold[p] for p in pmids], [pooled[p].probabilities for p in pmids]))


def _by_cell(predictions: Iterable[Prediction], variant: str) -> dict[CellKey, list[Prediction]]:
    cells: dict[CellKey, list[Prediction]] = defaultdict(list)
    for row in predictions:
        where = f"{variant}, {row.split} PMID {row.pmid}, fold {row.fold}, seed {row.seed}"
        require_distribution(row.probabilities, where)
        cells[CellKey(row.fold, row.seed)].append(row)
    if not cells:
        raise DataError(f"{variant}: there are no predictions: run predict again")
    return dict(cells)


def _require_complete(
    cells: Mapping[CellKey, Sequence[Prediction]],
    *,
    variant: str,
    test_pmids: Sequence[str],
    dev_pmids: Mapping[int, Sequence[str]],
) -> None:
    """Raise DataError unless there is every fold for every seed, each on all and only its PMIDs."""
    seeds = {key.seed for key in cells}
    wanted = {CellKey(fold, seed) for fold in dev_pmids for seed in seeds}
    if wanted != cells.keys():
        told = [f"fold {k.fold} seed {k.seed} is missing" for k in sorted(wanted - cells.keys())]
        told += [f"fold {k.fold} is not in the split" for k in sorted(cells.keys() - wanted)]
        raise DataError(f"{variant}: {', '.join(told[:5])}: run predict again")
    splits = {"test": test_pmids, **{f"dev of fold {f}": pmids for f, pmids in dev_pmids.items()}}
    if empty := [name for name, pmids in splits.items() if not pmids]:
        raise DataError(f"{variant}: there is no question in {empty[0]}: split again")
    for key, rows in sorted(cells.items()):
        where = f"{variant}, fold {key.fold}, seed {key.seed}"
        require_exactly(test_pmids, [r.pmid for r in rows if r.split == "test"], f"{where}, test")
        require_exactly(
            dev_pmids[key.fold], [r.pmid for r in rows if r.split == "dev"], f"{where}, dev"
        )


def _require_gold(gold: Mapping[str, Answer], pmids: Iterable[str]) -> None:
    if without := sorted(set(pmids) - gold.keys()):
        raise DataError(
            f"{len(without)} questions of the folds have no gold answer in the split "
            f"({', '.join(without[:5])}): folds and questions are of different runs, split again"
        )


def _cell(key: CellKey, rows: Sequence[Prediction], gold: Mapping[str, Answer]) -> Cell:
    dev, test = (
        sorted((r for r in rows if r.split == s), key=lambda r: r.pmid) for s in ("dev", "test")
    )
    dev_gold, test_gold = ([gold[row.pmid] for row in half] for half in (dev, test))
    dev_answers, test_answers = ([row.answer for row in half] for half in (dev, test))
    return Cell(
        fold=key.fold,
        seed=key.seed,
        dev_accuracy=accuracy(dev_gold, dev_answers),
        dev_macro_f1=macro_f1(dev_gold, dev_answers),
        test_accuracy=accuracy(test_gold, test_answers),
        test_macro_f1=macro_f1(test_gold, test_answers),
    )


def _spread(cells: Sequence[Cell]) -> Spread:
    dev_accuracy = [cell.dev_accuracy for cell in cells]
    dev_macro_f1 = [cell.dev_macro_f1 for cell in cells]
    test_accuracy = [cell.test_accuracy for cell in cells]
    test_macro_f1 = [cell.test_macro_f1 for cell in cells]
    return Spread(
        cells=len(cells),
        dev_accuracy_mean=statistics.fmean(dev_accuracy),
        dev_accuracy_sd=_sd(dev_accuracy),
        dev_macro_f1_mean=statistics.fmean(dev_macro_f1),
        dev_macro_f1_sd=_sd(dev_macro_f1),
        test_accuracy_mean=statistics.fmean(test_accuracy),
        test_accuracy_sd=_sd(test_accuracy),
        test_macro_f1_mean=statistics.fmean(test_macro_f1),
        test_macro_f1_sd=_sd(test_macro_f1),
    )


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
