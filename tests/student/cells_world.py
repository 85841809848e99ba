"""Cells of the tiny model for the tests of engines: two folds, any seeds, few steps."""

from __future__ import annotations

from pathlib import Path

from medslm.data.split import Fold
from medslm.files import sha256_of
from medslm.student.cells import Finished, Inputs, Job
from medslm.student.settings import ComputeParams, StudentParams
from tests.factories import question
from tests.student.test_tuning import FOLD, dev, examples, tune

OTHER_FOLD = Fold(train=tuple(str(i) for i in range(3, 23)), dev=("0", "1", "2"))
LEAKING = Fold(train=("1", "2"), dev=("2",))
COMPUTE = {
    "engine": "local",
    "address": None,
    "cpus_per_cell": 1,
    "gpus_per_cell": 0,
    "retries": 1,
    "processes": 1,
    "strategy": "ddp",
    "max_hours": 8,
}


def compute(**changes):
    return ComputeParams(**{**COMPUTE, **changes})


def student(model: Path) -> StudentParams:
    knobs = {"revision": None, "dtype": "float32", "max_tokens": 256, "batch_size": 4}
    return StudentParams(model=str(model), **knobs)


def inputs(model: Path, work: Path, **changes) -> Inputs:
    """Return the inputs of cells whose folds are FOLD (0) and OTHER_FOLD (1)."""
    asked = [*dev(), *(question(pmid, answer="yes") for pmid in OTHER_FOLD.dev)]
    return Inputs(examples(), asked, student(model), tune(**changes), work)


def jobs(*seeds: int) -> list[Job]:
    return [Job(n, s, fold) for n, fold in enumerate((FOLD, OTHER_FOLD)) for s in seeds]


def weights(cell: Finished) -> str:
    return sha256_of(cell.folder / "adapter_model.safetensors")


def tensors(cell: Finished):
    from safetensors.torch import load_file

    return load_file(cell.folder / "adapter_model.safetensors")


def close(one: Finished, two: Finished, atol: float) -> bool:
    import torch

    first, second = tensors(one), tensors(two)
    return all(torch.allclose(first[name], second[name], rtol=0, atol=atol) for name in first)
