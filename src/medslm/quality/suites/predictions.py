"""The suite on the predictions of one variant or baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medslm.data.records import ANSWERS, Prediction, Question
from medslm.data.split import Fold
from medslm.quality.expected import (
    PROBABILITY_COLUMNS,
    Expected,
    Row,
    Table,
    allowed,
    balance,
    probabilities,
    probability_columns,
    rows_at_least,
)

NO_ANSWER = "none"
COLUMNS = {
    "id": "str",
    "split": "str",
    "answer": "str",
    "is_unanswered": "float64",
    "its_cell_is_complete": "bool",
    "is_the_most_probable": "bool",
    **PROBABILITY_COLUMNS,
}


def table(
    predictions: Sequence[Prediction],
    *,
    dev: Sequence[Question],
    test: Sequence[Question],
    folds: Mapping[str, Fold],
) -> Table:
    """Return one row per prediction; a cell (split, fold, seed) answers all its questions, each once."""
    known = {question.pmid for question in dev}
    asked = {("test", int(name)): sorted(q.pmid for q in test) for name in folds}
    asked |= {("dev", int(n)): sorted(known & set(f.dev)) for n, f in folds.items()}
    cells: dict[tuple[str, int, int], list[str]] = {}
    for prediction in predictions:
        cell = prediction.split, prediction.fold, prediction.seed
        cells.setdefault(cell, []).append(prediction.pmid)
    whole = {cell: sorted(pmids) == asked.get(cell[:2]) for cell, pmids in cells.items()}
    rows = [_row(p, complete=whole[p.split, p.fold, p.seed]) for p in predictions]
    return Table(COLUMNS, sorted(rows, key=lambda row: str(row["id"])))


def suite(
    *, folds: Sequence[str], questions: int, max_answer_share: float, max_unanswered_share: float
) -> list[Expected]:
    """Return what predictions have to be; ``questions`` is how many a cell of test answers.

    One answer throughout is a warning: that is what a student that learned nothing gives.
    """
    share = {"column": "is_unanswered", "min_value": 0, "max_value": max_unanswered_share}
    return [
        rows_at_least(len(folds) * questions),
        *allowed(
            {
                "split": ["dev", "test"],
                "answer": [*ANSWERS, NO_ANSWER],
                "its_cell_is_complete": [True],
                "is_the_most_probable": [True],
            }
        ),
        Expected(
            "both_parts_are_there",
            "ExpectColumnDistinctValuesToContainSet",
            {"column": "split", "value_set": ["dev", "test"]},
        ),
        *probabilities(),
        Expected("few_of_them", "ExpectColumnMeanToBeBetween", share, "warning"),
        *balance("answer", max_answer_share, "warning"),
    ]


def _row(prediction: Prediction, *, complete: bool) -> Row:
    p = prediction.probabilities
    return {
        "id": f"{prediction.split}:{prediction.fold}:{prediction.seed}:{prediction.pmid}",
        "split": prediction.split,
        "answer": prediction.answer or NO_ANSWER,
        "is_unanswered": float(prediction.answer is None),
        "its_cell_is_complete": complete,
        "is_the_most_probable": prediction.answer is None
        or p.get(prediction.answer) == max(p.values(), default=None),
        **probability_columns(p),
    }
