"""The lines of the comparison: ours, and published ones with the test set that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from medslm.evaluation.differences import Difference
from medslm.evaluation.testset import TestSet

Metric = Literal["dev.macro_f1", "dev.accuracy", "dev.nll"]
Kind = Literal["cited", "baseline", "variant"]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. Numbers are None where the source of a cited line gives none.

    ``dev`` is the value of the metric that the choice is made by, with its 95 % interval. ``gain`` is
    what the variant's accuracy gains over ``control``, a variant of as many rows without its generated
    data, with the paired 95 % interval; None without such a control.
    """

    __pydantic_config__ = _STRICT
    name: str
    kind: Kind
    test_set: TestSet
    n: int
    accuracy: float
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    macro_f1: float
    macro_f1_low: float | None = None
    macro_f1_high: float | None = None
    f1_yes: float | None = None
    f1_no: float | None = None
    f1_maybe: float | None = None
    unanswered: int | None = None
    dev: float | None = None
    dev_low: float | None = None
    dev_high: float | None = None
    control: str | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The table, the chosen variant, and what a reader must know before believing the table.

    All ``rows`` are of one test set; ``elsewhere`` holds published lines of another one, which no
    number here may be compared with. ``differences`` are on test, Holm's correction over all of them.
    """

    __pydantic_config__ = _STRICT
    chosen: str
    metric: Metric
    dev_n: int
    test_set: TestSet
    rows: tuple[Row, ...]
    elsewhere: tuple[Row, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]


def _published(name: str, test_set: TestSet, accuracy: float, macro_f1: float) -> Row:
    return Row(
        name=name, kind="cited", test_set=test_set, n=500, accuracy=accuracy, macro_f1=macro_f1
    )


# Jin et al. 2019 (arXiv 1909.06146): reasoning-required setting. Guo et al. 2023 (arXiv 2305.07804): the best
# of 92 runs, BioGPT-Large with new questions by GPT-4 (notebook Results.ipynb, de0d66f), chosen on its test
# set. The other lines of that set are counted from PQA-L (reasoning_required_pred): it is the easier one.
CITED = (
    _published("majority, Jin et al. 2019", "official", 0.552, 0.237),
    _published("human, Jin et al. 2019", "official", 0.780, 0.722),
    _published("majority of the last 500", "last-500", 0.554, 0.238),
    _published("human, labels of Jin et al. 2019", "last-500", 0.824, 0.787),
    _published("best of Guo et al. 2023", "last-500", 0.754, 0.520),
)


def cited(test_set: TestSet) -> tuple[Row, ...]:
    """Return the published lines on a test set; none on one's own."""
    return tuple(row for row in CITED if row.test_set == test_set)


def elsewhere(test_set: TestSet) -> tuple[Row, ...]:
    """Return the published lines on other test sets of PQA-L; none beside a test set of one's own."""
    return () if test_set == "own" else tuple(row for row in CITED if row.test_set != test_set)
