"""Where cells are trained: in this process, in several that share each batch, or on Ray."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from medslm.models import Loaded, load_causal_lm
from medslm.student.cells import CellTrainer, Finished, Inputs, Job, finished, trained
from medslm.student.settings import (
    ComputeParams,
    StudentParams,
    TuneParams,
    require_same_result,
)

log = logging.getLogger(__name__)


class Base(NamedTuple):
    """Which base model the workers hold: its name, the hash of its bytes, the precision in use."""

    base_id: str
    base_sha256: str
    dtype: str


class Trainer(Protocol):
    """Holds the base in memory and trains one cell after the other."""

    base: Base

    def train(self, inputs: Inputs, job: Job) -> None:
        """Train one cell into its folder."""


class Engine(Protocol):
    """Gets the cells of a variant trained."""

    def base(self) -> Base:
        """Return the base model that the cells are trained on, which is part of the inputs' hash."""

    def train(self, inputs: Inputs, jobs: Sequence[Job]) -> list[Finished]:
        """Return all cells in the order of ``jobs``; those trained earlier are taken up."""


@contextlib.contextmanager
def engine(student: StudentParams, tune: TuneParams, compute: ComputeParams) -> Iterator[Engine]:
    """Yield what ``compute`` asks for, ready to train; at the end all its processes are gone.

    Raises ParamsError if it would change the result.
    """
    require_same_result(tune, compute)
    if compute.engine == "ray":
        from medslm.student.on_ray import ray_engine

        with ray_engine(student, tune, compute) as on_ray:
            yield on_ray
    else:
        with trainer(student, tune, compute) as here:
            yield Local(here)


@contextlib.contextmanager
def trainer(student: StudentParams, tune: TuneParams, compute: ComputeParams) -> Iterator[Trainer]:
    """Yield a trainer on this machine: one process, or ``compute.processes`` that share each batch."""
    if compute.processes == 1:
        yield OneProcess(student, tune, compute)
        return
    from medslm.student.ranks import ManyProcesses

    many = ManyProcesses(student, tune, compute)
    try:
        yield many
    finally:
        many.close()


class Local:
    """One cell after the other; the base stays loaded."""

    def __init__(self, here: Trainer) -> None:
        self._trainer = here

    def base(self) -> Base:
        """Return the base of the one trainer."""
        return self._trainer.base

    def train(self, inputs: Inputs, jobs: Sequence[Job]) -> list[Finished]:
        """Train what is not finished, in order."""
        done = []
        for job in jobs:
            earlier = taken_up(inputs, job)
            if earlier is None:
                self._trainer.train(inputs, job)
            done.append(earlier or trained(inputs.work, job))
        return done


class OneProcess:
    """Trains cells in this process, with ``compute.cpus_per_cell`` threads if that is set."""

    def __init__(self, student: StudentParams, tune: TuneParams, compute: ComputeParams) -> None:
        import torch

        if compute.cpus_per_cell:
            torch.set_num_threads(compute.cpus_per_cell)
        self._loaded = load_causal_lm(
            student.model, revision=student.revision, dtype=student.dtype, quantize=tune.quantize
        )
        self.base = base_of(self._loaded)
        self._cells: CellTrainer | None = None

    def train(self, inputs: Inputs, job: Job) -> None:
        """Train one cell; a fold's tokenised data are kept for its other seeds."""
        if self._cells is None or self._cells.inputs is not inputs:
            self._cells = CellTrainer(self._loaded, inputs)
        self._cells.train(job)


def base_of(loaded: Loaded) -> Base:
    """Return what identifies a loaded base."""
    return Base(loaded.base_id, loaded.base_sha256, loaded.dtype)


def taken_up(inputs: Inputs, job: Job) -> Finished | None:
    """Return the cell if an earlier run trained it, and say so."""
    earlier = finished(inputs.work, job)
    if earlier is not None:
        log.info("%s: finished in an earlier run, taken from %s", job.name, earlier.folder)
    return earlier
