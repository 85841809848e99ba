"""Training histories: one CSV per variant, read strictly and averaged over folds and seeds."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from medslm.errors import DataError

COLUMNS = (
    "fold",
    "seed",
    "epoch",
    "step",
    "train_loss",
    "dev_loss",
    "dev_accuracy",
    "dev_macro_f1",
    "learning_rate",
)


class Epoch(NamedTuple):
    """The losses of one student at one point of its training; None where the file has nothing."""

    fold: int
    seed: int
    epoch: float
    step: int
    train_loss: float | None
    dev_loss: float | None


class Point(NamedTuple):
    """Losses at one epoch, the mean over students that reached it."""

    epoch: float
    train_loss: float | None
    dev_loss: float | None


def read_history(path: Path) -> list[Epoch]:
    """Read a training history; DataError names file, line and column of a bad cell."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: train this variant first") from None
    except UnicodeDecodeError as exc:
        raise DataError(f"{path}: not a UTF-8 text file ({exc})") from None
    lines = list(csv.reader(io.StringIO(text, newline="")))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path}:1: the columns are not {','.join(COLUMNS)}")
    if len(lines) == 1:
        raise DataError(f"{path}: holds no epoch: train this variant again")
    return [_epoch(cells, f"{path}:{number}") for number, cells in enumerate(lines[1:], start=2)]


def mean_curve(epochs: Iterable[Epoch]) -> list[Point]:
    """Return a point per epoch in order: the mean over students of the epoch's last step."""
    last: dict[tuple[float, int, int], Epoch] = {}
    for row in sorted(epochs, key=lambda row: row[:4]):
        last[row.epoch, row.fold, row.seed] = row
    by_epoch: dict[float, list[Epoch]] = defaultdict(list)
    for row in last.values():
        by_epoch[row.epoch].append(row)
    return [
        Point(epoch, _mean([r.train_loss for r in rows]), _mean([r.dev_loss for r in rows]))
        for epoch, rows in sorted(by_epoch.items())
    ]


def limits(curves: Iterable[Sequence[Point]]) -> tuple[float, float]:
    """Return the lowest and highest loss of all curves; (0, 1) when none has any."""
    values = [
        loss
        for curve in curves
        for point in curve
        for loss in (point.train_loss, point.dev_loss)
        if loss is not None
    ]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _epoch(cells: Sequence[str], where: str) -> Epoch:
    if len(cells) != len(COLUMNS):
        raise DataError(f"{where}: has {len(cells)} cells, expected {len(COLUMNS)}")
    values = {
        column: _number(cell, f"{where}: {column}")
        for column, cell in zip(COLUMNS, cells, strict=True)
    }
    for column in ("fold", "seed", "epoch", "step"):
        if values[column] is None:
            raise DataError(f"{where}: {column}: is empty")
    return Epoch(
        fold=int(values["fold"] or 0),
        seed=int(values["seed"] or 0),
        epoch=values["epoch"] or 0.0,
        step=int(values["step"] or 0),
        train_loss=values["train_loss"],
        dev_loss=values["dev_loss"],
    )


def _number(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{where}: {cell[:40]!r} is not a number") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: {cell!r} is not finite: train this variant again")
    return value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
