"""What `score` writes and `compare` and `report` read: one score sheet per variant or baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict

from medslm.errors import DataError
from medslm.evaluation.testset import TestSet
from medslm.files import dump_json, read_json, write_json

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

DIGITS = 6

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The scores on one split; every share within 0 and 1, six digits.

    ``confusion`` has a row per gold answer (yes, no, maybe) and a column per answer given (yes, no,
    maybe, unanswered); DVC shows no lists, which keeps ``dvc metrics diff`` short. ``nll`` is in
    nats; it, ``brier`` and ``ece`` are None for a model that gives no probabilities. Intervals are
    of 95 %: Wilson's of accuracy, the bootstrap's of the others. ECE has none: what a bootstrap draws is
    binned again and mostly lies further off than the number itself.
    """

    __pydantic_config__ = _STRICT
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    precision_yes: float
    precision_no: float
    precision_maybe: float
    recall_yes: float
    recall_no: float
    recall_maybe: float
    f1_yes: float
    f1_no: float
    f1_maybe: float
    nll: float | None
    nll_low: float | None
    nll_high: float | None
    brier: float | None
    brier_low: float | None
    brier_high: float | None
    ece: float | None
    unanswered: int
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fold and seed on its own, before anything is averaged."""

    __pydantic_config__ = _STRICT
    fold: int
    seed: int
    dev_accuracy: float
    dev_macro_f1: float
    test_accuracy: float
    test_macro_f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation over cells; the deviation of a single cell is None."""

    __pydantic_config__ = _STRICT
    cells: int
    dev_accuracy_mean: float
    dev_accuracy_sd: float | None
    dev_macro_f1_mean: float
    dev_macro_f1_sd: float | None
    test_accuracy_mean: float
    test_accuracy_sd: float | None
    test_macro_f1_mean: float
    test_macro_f1_sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Answers and probabilities on one split, in numbers that show calibration; ``ece`` has ten bins.

    ``bins`` are those on test that hold questions, none on dev: n, mean confidence, share right.
    """

    __pydantic_config__ = _STRICT
    accuracy: float
    macro_f1: float
    nll: float
    brier: float
    ece: float
    bins: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What temperature and class-prior adjustment, fitted on out-of-fold dev answers, make of a variant.

    ``accuracy`` and ``macro_f1`` are of the prior-adjusted answers, the rest of the scaled
    probabilities; ``raw_dev`` and ``raw_test`` are the same numbers before. ``fitted_on`` counts
    questions. Dev is cross-fitted ``across``: "folds", or "parts" of the one fold there is.
    """

    __pydantic_config__ = _STRICT
    temperature: float
    tau: float
    fitted_on: int
    across: Literal["folds", "parts"]
    dev: Reliability
    test: Reliability
    raw_dev: Reliability
    raw_test: Reliability


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All there is on one variant: pooled dev and test, each cell, and how the cells spread.

    ``calibrated`` is None for answers without probabilities and for too few dev questions.
    ``bins`` are those of the test probabilities as in `Reliability`, none without probabilities.
    ``test_digest`` is of the test questions' PMIDs and gold answers.
    """

    __pydantic_config__ = _STRICT
    variant: str
    test_set: TestSet
    test_digest: str
    dev: Part
    test: Part
    spread: Spread
    bins: tuple[tuple[int, float, float], ...]
    calibrated: Calibrated | None
    cells: tuple[Cell, ...]


def read_sheet(folder: Path, variant: str) -> Sheet:
    """Read a variant's sheet; DataError when it is missing, damaged or another variant's."""
    path = folder / f"{variant}.json"
    sheet = read_record(path, Sheet)
    if sheet.variant != variant:
        raise DataError(
            f"{path}: holds the scores of {sheet.variant}, not {variant}: score it again"
        )
    return sheet


def write_record(path: Path, value: Any) -> None:
    """Write one frozen dataclass as a JSON object, floats rounded to six digits."""
    write_json(path, _rounded(dataclasses.asdict(value)))


def read_record(path: Path, record: type[R]) -> R:
    """Read one frozen dataclass from a JSON file; DataError names the file and the field."""
    return as_record(read_json(path), record, str(path))


def as_record(value: object, record: type[R], what: str) -> R:
    """Turn parsed JSON into a frozen dataclass; DataError names ``what`` and the field."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(record).validate_json(
            dump_json(value)
        )  # JSON has no tuples: strict on text only
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{what}: not a {record.__name__}: {where}: {first['msg']}") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
