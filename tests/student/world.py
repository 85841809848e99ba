"""A small training run for the tests of faults: twenty examples, dropout on, a checkpoint each step."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Example, Question
from medslm.data.split import Fold
from medslm.files import sha256_of, write_json
from medslm.models import Loaded
from medslm.student.cells import Finished, train_cells
from medslm.student.settings import StudentParams, TuneParams
from tests.factories import example, question

STUDENT = StudentParams(model="x", revision=None, dtype="float32", max_tokens=256, batch_size=4)
TUNE: dict[str, Any] = {
    "method": "lora",
    "rslora": False,
    "virtual_tokens": 4,
    "prefix_init": "zero",
    "quantize": None,
    "r": 4,
    "alpha": 8,
    "dropout": 0.1,
    "targets": "all-linear",
    "layers": "top-2",
    "lr": 0.01,
    "warmup": 0.1,
    "weight_decay": 0.0,
    "clip": 1.0,
    "batch_size": 4,
    "accumulate": 1,
    "epochs": 3,
    "seeds": [0],
    "objective": "three-way",
    "order": "mixed",
    "real_weight": 1.0,
    "patience": None,
    "reuse_frozen": True,
    "checkpoint_every_s": 0.0,
}
FOLD = Fold(train=tuple(str(i) for i in range(20)), dev=("20", "21", "22"))
STEPS = 15  # of three epochs


def examples(words: int = 12) -> list[Example]:
    rng = random.Random(0)
    sources = ("real", "real", "local-new")
    return [
        example(
            str(i),
            answer=ANSWERS[i % 3],
            context="Stay was 4 days. " * rng.randint(1, words),
            source=sources[i % 3],
        )
        for i in range(20)
    ]


def dev() -> list[Question]:
    return [question(pmid, answer=ANSWERS[i % 3]) for i, pmid in enumerate(FOLD.dev)]


def run(loaded: Loaded, work: Path, **changes: Any) -> list[Finished]:
    """Train one cell in ``work``."""
    params = TuneParams(**{**TUNE, **changes})
    return list(
        train_cells(loaded, {"0": FOLD}, examples(), dev(), student=STUDENT, tune=params, work=work)
    )


def checkpoints(work: Path) -> list[Path]:
    """Return the checkpoints of the cell, newest first."""
    return sorted((work / "fold0-seed0.checkpoints").glob("step-????????"), reverse=True)


def outcome(work: Path) -> list[str]:
    """Return the hashes of all that a finished cell leaves."""
    return [sha256_of(file) for file in sorted((work / "fold0-seed0").iterdir())]


def reseal(folder: Path) -> None:
    """Give a checkpoint whose files were changed a manifest that fits."""
    (folder / "manifest.json").unlink()
    files = {file.name: sha256_of(file) for file in folder.iterdir()}
    step = int(folder.name.removeprefix("step-"))
    write_json(folder / "manifest.json", {"step": step, "files": files})
