"""A model's trial before it is promoted: loaded as it will be served, it has to answer as it was scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medslm.data.records import ANSWERS, Answer, Prediction, Question
from medslm.errors import DataError, Diverged, IntegrityError, NotPromotable
from medslm.evaluation.pooling import pool, rows_of
from medslm.files import read_jsonl
from medslm.tracking.adapters import PREDICTIONS

# Enough for several lengths and a padded batch; SmolLM2 answers them in about three seconds.
QUESTIONS = 8
# bfloat16 in batches of another make-up moves a probability by a few hundredths; a model that is not
# the one that was scored moves them by tenths.
TOLERANCE = 0.05


def stand(folder: Path, manifest_sha256: str, test: Sequence[Question]) -> None:
    """Raise NotPromotable unless the package in ``folder`` loads and answers as it was scored.

    It is asked the first test questions, whose recorded answers lie in the package.
    """
    if not (folder / PREDICTIONS).is_file():
        raise NotPromotable(
            "the registered package holds no recorded answers, it is of an older medslm; "
            "run `dvc repro --force --single-item track`, commit and try again"
        )
    asked = test[:QUESTIONS]
    recorded = pool(rows_of(read_jsonl(folder / PREDICTIONS, Prediction), "test"))
    if missing := [q.pmid for q in asked if q.pmid not in recorded]:
        raise NotPromotable(
            f"the registered package holds no answer to test PMID {missing[0]}; it is of another split"
        )
    try:
        found = _answers(folder, manifest_sha256, asked)
    except (IntegrityError, DataError, Diverged) as exc:
        raise NotPromotable(f"the registered model does not load and answer: {exc}") from exc
    for question, given in zip(asked, found, strict=True):
        expected = recorded[question.pmid].probabilities
        gap = max(abs(given[a] - expected[a]) for a in ANSWERS)
        if not gap <= TOLERANCE:
            raise NotPromotable(
                f"the registered model answers test PMID {question.pmid} with {dict(given)}, it was "
                f"scored with {dict(expected)}: this is another model, or another machine's arithmetic"
            )


def _answers(
    folder: Path, manifest_sha256: str, asked: Sequence[Question]
) -> Sequence[Mapping[Answer, float]]:
    from medslm.tracking.serving import Served

    served = Served(folder, manifest_sha256)
    return served.probabilities([(q.context, q.question) for q in asked])
