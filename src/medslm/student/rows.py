"""What goes into the training of a cell and what comes out of it: examples, a row per epoch, the adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from medslm.data.records import Answer
from medslm.data.scores import accuracy, macro_f1


class Labelled(NamedTuple):
    """A tokenised prompt, the number of its answer in the order yes, no, maybe, and whether it is real."""

    ids: list[int]
    label: int
    real: bool = True


@dataclasses.dataclass(frozen=True)
class Row:
    """One epoch of a cell: mean training loss, then loss, accuracy and macro-F1 on the dev fold."""

    epoch: int
    step: int
    train_loss: float
    dev_loss: float
    dev_accuracy: float
    dev_macro_f1: float
    learning_rate: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: train loss {self.train_loss:.4f}, dev loss {self.dev_loss:.4f}, "
            f"dev accuracy {self.dev_accuracy:.3f}"
        )


class Trained(NamedTuple):
    """The adapter of the epoch with the lowest dev loss, that epoch, and every epoch's row."""

    tensors: dict[str, Any]
    best_epoch: int
    history: list[Row]


def row_of(
    epoch: int,
    step: int,
    *,
    train_loss: float,
    dev_loss: float,
    truth: Sequence[Answer],
    given: Sequence[Answer],
    learning_rate: float,
) -> Row:
    """Return the row of an epoch, rounded as it is written."""
    return Row(
        epoch=epoch,
        step=step,
        train_loss=round(train_loss, 6),
        dev_loss=round(dev_loss, 6),
        dev_accuracy=round(accuracy(truth, given), 6),
        dev_macro_f1=round(macro_f1(truth, given), 6),
        learning_rate=round(learning_rate, 10),
    )
