"""The verdict: put baselines and variants into one table and choose a variant on dev alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from medslm.data.variants import Name
from medslm.errors import DataError, ParamsError
from medslm.evaluation.metrics import Z_95
from medslm.evaluation.sheet import Part, Sheet
from medslm.params import Section

Metric = Literal["dev.macro_f1", "dev.accuracy", "dev.nll"]
# Only the names matter here; the teacher's room reads the rest.
Asks = dict[Name, dict[str, Any]]
Answers = dict[Name, dict[str, Any]]
Kind = Literal["cited", "baseline", "variant"]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

OFFICIAL_TEST = (
    276,
    169,
    55,
)  # yes, no, maybe in test_ground_truth.json of github.com/pubmedqa/pubmedqa


class CompareParams(Section):
    """Knobs of the `compare` stage."""

    metric: Metric
    baselines: list[Name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. Numbers are None where the source of a cited line gives none.

    ``dev`` is the value of the metric that the choice is made by.
    """

    __pydantic_config__ = _STRICT
    name: str
    kind: Kind
    n: int
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    macro_f1: float
    f1_yes: float | None
    f1_no: float | None
    f1_maybe: float | None
    unanswered: int | None
    dev: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The table, the chosen variant, and what a reader must know before believing the table."""

    __pydantic_config__ = _STRICT
    chosen: str
    metric: Metric
    dev_n: int
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


# Jin et al. 2019 (arXiv 1909.06146): reasoning-required setting, the official 500 test questions
CITED = (
    Row(
        name="majority, Jin et al. 2019",
        kind="cited",
        n=500,
        accuracy=0.552,
        accuracy_low=None,
        accuracy_high=None,
        macro_f1=0.237,
        f1_yes=None,
        f1_no=None,
        f1_maybe=None,
        unanswered=None,
        dev=None,
    ),
    Row(
        name="human, Jin et al. 2019",
        kind="cited",
        n=500,
        accuracy=0.780,
        accuracy_low=None,
        accuracy_high=None,
        macro_f1=0.722,
        f1_yes=None,
        f1_no=None,
        f1_maybe=None,
        unanswered=None,
        dev=None,
    ),
)


def compare(
    sheets: Mapping[str, Sheet],
    *,
    variants: Sequence[str],
    baselines: Sequence[str],
    metric: Metric,
) -> Comparison:
    """Build the table: cited lines (official test set only), baselines, variants, as ordered.

    ParamsError when there is no variant or a name is both a variant and a baseline; DataError when
    the sheets are not of one test set.
    """
    _require_names(variants, baselines)
    _require_one_test_set(sheets, [*baselines, *variants])
    chosen = choose(sheets, variants=variants, metric=metric)
    cited = CITED if gold_counts(sheets[chosen].test) == OFFICIAL_TEST else ()
    rows = (
        *cited,
        *(_row(sheets[name], kind="baseline", metric=metric) for name in baselines),
        *(_row(sheets[name], kind="variant", metric=metric) for name in variants),
    )
    return Comparison(
        chosen=chosen,
        metric=metric,
        dev_n=sheets[chosen].dev.n,
        rows=rows,
        warnings=_warnings(rows, chosen=chosen, metric=metric),
    )


def lines_above(baselines: Iterable[str], answers: Iterable[str]) -> list[str]:
    """Return what stands above the variants and is never chosen, each once.

    First ``compare.baselines``, then the teachers' own ``answers`` that are not named there.
    """
    return list(dict.fromkeys([*baselines, *answers]))


def choose(sheets: Mapping[str, Sheet], *, variants: Sequence[str], metric: Metric) -> str:
    """Return the variant best on dev by ``metric``; of equal ones the first.

    Test scores are never read. dev.nll is better when lower, the others when higher.
    """
    values = {name: dev_value(sheets[name], metric) for name in variants}
    sign = -1 if metric == "dev.nll" else 1
    return max(variants, key=lambda name: sign * values[name])


def dev_value(sheet: Sheet, metric: Metric) -> float:
    """Return the dev score that the choice is made by; DataError if the model gives none."""
    value: float | None = getattr(sheet.dev, metric.removeprefix("dev."))
    if value is None:
        raise DataError(
            f"{sheet.variant}: has no {metric}, since its predictions have no probabilities: "
            "choose another compare.metric"
        )
    return value


def smallest_real_difference(n: int, share: float) -> float:
    """Return the gap of two accuracies near ``share`` that chance exceeds one time in twenty.

    z * sqrt(2 p (1 - p) / n), for independent answers. Two models that agree on many questions can
    differ reliably by less, which takes a paired test to say.
    """
    return Z_95 * math.sqrt(2 * share * (1 - share) / n)


def gold_counts(part: Part) -> tuple[int, ...]:
    """Return how many questions have the gold answer yes, no and maybe."""
    return tuple(sum(row) for row in part.confusion)


def _row(sheet: Sheet, *, kind: Kind, metric: Metric) -> Row:
    test = sheet.test
    return Row(
        name=sheet.variant,
        kind=kind,
        n=test.n,
        accuracy=test.accuracy,
        accuracy_low=test.accuracy_low,
        accuracy_high=test.accuracy_high,
        macro_f1=test.macro_f1,
        f1_yes=test.f1_yes,
        f1_no=test.f1_no,
        f1_maybe=test.f1_maybe,
        unanswered=test.unanswered,
        dev=dev_value(sheet, metric)
        if kind == "variant"
        else getattr(sheet.dev, metric.removeprefix("dev.")),
    )


def _warnings(rows: Sequence[Row], *, chosen: str, metric: Metric) -> tuple[str, ...]:
    own = [row for row in rows if row.kind != "cited"]
    best = next(row for row in own if row.name == chosen)
    baselines = [row for row in own if row.kind == "baseline"]
    told = []
    if same := [row.name for row in own if row is not best and _overlap(row, best)]:
        points = 100 * smallest_real_difference(best.n, best.accuracy)
        told.append(
            f"The 95 % interval of {chosen} overlaps that of {', '.join(same)}: differences in "
            f"accuracy of less than {points:.1f} points on n = {best.n} may be noise."
        )
    if beaten_by := [row.name for row in baselines if not _better(best, row, metric)]:
        told.append(f"{chosen} is no better on {metric} than the baseline {', '.join(beaten_by)}.")
    told += [
        f"{row.name} left {row.unanswered} of {row.n} test questions unanswered: counted as wrong."
        for row in own
        if row.unanswered
    ]
    return tuple(told)


def _better(one: Row, other: Row, metric: Metric) -> bool:
    if one.dev is None or other.dev is None:
        return True  # no number on one side: nothing to warn of
    return one.dev < other.dev if metric == "dev.nll" else one.dev > other.dev


def _overlap(one: Row, other: Row) -> bool:
    if one.accuracy_low is None or one.accuracy_high is None:
        return False
    if other.accuracy_low is None or other.accuracy_high is None:
        return False
    return one.accuracy_low <= other.accuracy_high and other.accuracy_low <= one.accuracy_high


def _require_names(variants: Sequence[str], baselines: Sequence[str]) -> None:
    if not variants:
        raise ParamsError("variants: is empty, so there is nothing to choose from: add one")
    if both := sorted(set(variants) & set(baselines)):
        raise ParamsError(
            f"variants: {', '.join(both)} is also a baseline in compare.baselines or answers: "
            "rename it"
        )


def _require_one_test_set(sheets: Mapping[str, Sheet], names: Sequence[str]) -> None:
    counts = {name: gold_counts(sheets[name].test) for name in names}
    first = names[0]
    for name in names[1:]:
        if counts[name] != counts[first]:
            raise DataError(
                f"{name} was scored on a test set of {counts[name]} yes/no/maybe and {first} on "
                f"{counts[first]}: score both on the same split"
            )
