"""What is validated before variants are compared: all predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medslm.data.records import Prediction
from medslm.data.split import read_folds
from medslm.files import read_jsonl
from medslm.quality.parts import parts_of
from medslm.quality.reports import Job
from medslm.quality.settings import PredictionParams
from medslm.quality.suites import predictions


def prediction_jobs(
    *, folder: Path, split: Path, names: Sequence[str], knobs: PredictionParams
) -> list[Job]:
    """Return the suite on the predictions of every variant and baseline."""
    parts = parts_of(split)
    folds = read_folds(split / "folds.json")
    return [
        Job(
            "predictions",
            name,
            predictions.table(
                read_jsonl(folder / f"{name}.jsonl", Prediction),
                dev=parts["dev"],
                test=parts["test"],
                folds=folds,
            ),
            predictions.suite(folds=[*folds], questions=len(parts["test"]), **knobs.model_dump()),
        )
        for name in names
    ]
