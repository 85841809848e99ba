"""Practice for small data: which examples an epoch goes through, what each counts, when to stop."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from medslm.student.batches import batches

Order = Literal["mixed", "synthetic-first"]
Objective = Literal["three-way", "full-vocabulary"]


class Practice(NamedTuple):
    """The knobs of `tune` that are about little data; params.yaml says what each does."""

    order: Order
    real_weight: float
    patience: int | None
    objective: Objective


# Neither curriculum nor weights nor an early end: every example counts one, in every epoch.
PLAIN = Practice(order="mixed", real_weight=1.0, patience=None, objective="three-way")


class Course:
    """All epochs of a training run and their batches: a function of its arguments alone.

    Mixed: ``epochs`` passes over everything. Synthetic-first: ``epochs`` passes over the generated
    examples, then as many over the real ones, so that every example is seen as often as in a mixed
    course; each pass is an epoch with a dev evaluation of its own.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        real: Sequence[bool],
        *,
        order: Order,
        epochs: int,
        batch_size: int,
        seed: int,
    ) -> None:
        everything = list(range(len(lengths)))
        parts = [everything]
        if order == "synthetic-first":
            generated = [i for i in everything if not real[i]]
            parts = [part for part in (generated, [i for i in everything if real[i]]) if part]
        self.rows = [part for part in parts for _ in range(epochs)]
        self.warming_up = epochs * (len(parts) - 1)  # epochs before the first real example
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        steps = [math.ceil(len(rows) / batch_size) for rows in self.rows]
        self.starts = [0, *itertools.accumulate(steps)]
        self.total = self.starts[-1]

    def epoch_at(self, step: int) -> int:
        """Return the number, from 0, of the epoch that the step after ``step`` steps belongs to."""
        return bisect.bisect_right(self.starts, step) - 1

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch as numbers of examples."""
        rows = self.rows[epoch]
        lengths = [self._lengths[i] for i in rows]
        found = batches(lengths, batch_size=self._batch_size, seed=self._seed, epoch=epoch)
        return [[rows[i] for i in batch] for batch in found]

    def examples_after(self, step: int) -> int:
        """Return how many examples are still to come after ``step`` steps, to the batch."""
        if step >= self.total:
            return 0
        epoch = self.epoch_at(step)
        begun = (step - self.starts[epoch]) * self._batch_size
        return sum(len(rows) for rows in self.rows[epoch:]) - begun


class Evaluated(Protocol):
    """What stopping early looks at: a row of the history."""

    @property
    def epoch(self) -> int:
        """The epoch's number, from 1."""

    @property
    def dev_loss(self) -> float:
        """The loss on the dev fold at its end."""


def weights(real: Sequence[bool], real_weight: float) -> list[float]:
    """Return what each example's loss counts: real ones ``real_weight`` times a generated one, mean 1.

    With a mean of one the learning rate keeps its meaning, and the mean over a batch is an unbiased
    estimate of the weighted loss of all.
    """
    bare = [real_weight if r else 1.0 for r in real]
    mean = math.fsum(bare) / len(bare)
    return [value / mean for value in bare]


def stalled(history: Sequence[Evaluated], patience: int | None, *, after: int) -> bool:
    """Return whether the last ``patience`` epochs brought no lower dev loss than the best before them.

    Epochs up to ``after`` (those on generated examples alone) never count. A function of the history
    alone, so that a resumed run stops where an undisturbed one does.
    """
    if patience is None or not history:
        return False
    best = min(history, key=lambda row: (row.dev_loss, row.epoch)).epoch
    return history[-1].epoch - max(best, after) >= patience


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the factor on the learning rate: linear up over ``warmup`` of the steps, then linear to 0."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)
