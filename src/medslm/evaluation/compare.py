"""The verdict: put baselines and variants into one table and choose a variant on dev alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medslm.data.variants import Name
from medslm.errors import DataError, ParamsError
from medslm.evaluation.differences import Difference
from medslm.evaluation.rows import Comparison, Kind, Metric, Row, cited, elsewhere
from medslm.evaluation.sheet import Sheet
from medslm.evaluation.testset import TITLES
from medslm.params import Section

# Only the names matter here; the teacher's room reads the rest.
Asks = dict[Name, dict[str, Any]]
Answers = dict[Name, dict[str, Any]]


class CompareParams(Section):
    """Knobs of the `compare` stage."""

    metric: Metric
    baselines: list[Name]


def compare(
    sheets: Mapping[str, Sheet],
    *,
    variants: Sequence[str],
    baselines: Sequence[str],
    metric: Metric,
    controls: Mapping[str, str] | None = None,
    differences: Sequence[Difference] = (),
) -> Comparison:
    """Build the table: cited lines of this test set, baselines, variants, as ordered.

    ``controls`` names the variant that is as long as another one without its data; ``differences``
    are paired, on test. ParamsError when there is no variant or a name is both a variant and a
    baseline; DataError when the sheets are not of one test set.
    """
    require_names(variants, baselines)
    _require_one_test_set(sheets, [*baselines, *variants])
    chosen = choose(sheets, variants=variants, metric=metric)
    test_set = sheets[chosen].test_set
    gains = {(d.one, d.other): d for d in differences}
    rows = (
        *cited(test_set),
        *(_row(sheets[name], kind="baseline", metric=metric) for name in baselines),
        *(
            _with_gain(_row(sheets[name], kind="variant", metric=metric), controls or {}, gains)
            for name in variants
        ),
    )
    return Comparison(
        chosen=chosen,
        metric=metric,
        dev_n=sheets[chosen].dev.n,
        test_set=test_set,
        rows=rows,
        elsewhere=elsewhere(test_set),
        differences=tuple(differences),
        warnings=_warnings(rows, differences, chosen=chosen, metric=metric),
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


def _row(sheet: Sheet, *, kind: Kind, metric: Metric) -> Row:
    test, name = sheet.test, metric.removeprefix("dev.")
    return Row(
        name=sheet.variant,
        kind=kind,
        test_set=sheet.test_set,
        n=test.n,
        accuracy=test.accuracy,
        accuracy_low=test.accuracy_low,
        accuracy_high=test.accuracy_high,
        macro_f1=test.macro_f1,
        macro_f1_low=test.macro_f1_low,
        macro_f1_high=test.macro_f1_high,
        f1_yes=test.f1_yes,
        f1_no=test.f1_no,
        f1_maybe=test.f1_maybe,
        unanswered=test.unanswered,
        dev=dev_value(sheet, metric) if kind == "variant" else getattr(sheet.dev, name),
        dev_low=getattr(sheet.dev, f"{name}_low"),
        dev_high=getattr(sheet.dev, f"{name}_high"),
    )


def _with_gain(
    row: Row, controls: Mapping[str, str], gains: Mapping[tuple[str, str], Difference]
) -> Row:
    control = controls.get(row.name)
    if control is None:
        return row
    if found := gains.get((row.name, control)):
        gain, low, high = found.accuracy, found.accuracy_low, found.accuracy_high
    elif found := gains.get((control, row.name)):
        gain, low, high = -found.accuracy, -found.accuracy_high, -found.accuracy_low
    else:
        return dataclasses.replace(row, control=control)
    return dataclasses.replace(row, control=control, gain=gain, gain_low=low, gain_high=high)


def _warnings(
    rows: Sequence[Row], differences: Sequence[Difference], *, chosen: str, metric: Metric
) -> tuple[str, ...]:
    own = [row for row in rows if row.kind != "cited"]
    best = next(row for row in own if row.name == chosen)
    baselines = [row for row in own if row.kind == "baseline"]
    told = []
    if same := [d.one if d.other == chosen else d.other for d in _not_shown(differences, chosen)]:
        told.append(
            f"{chosen} is not shown to differ in accuracy from {', '.join(same)} on n = {best.n} test "
            "questions: what they differ by may be chance, or the seed."
        )
    if beaten_by := [row.name for row in baselines if not _better(best, row, metric)]:
        told.append(f"{chosen} is no better on {metric} than the baseline {', '.join(beaten_by)}.")
    told += [
        f"{row.name} left {row.unanswered} of {row.n} test questions unanswered: counted as wrong."
        for row in own
        if row.unanswered
    ]
    return tuple(told)


def _not_shown(differences: Sequence[Difference], chosen: str) -> list[Difference]:
    return [d for d in differences if chosen in (d.one, d.other) and not d.is_shown_over_seeds]


def _better(one: Row, other: Row, metric: Metric) -> bool:
    if one.dev is None or other.dev is None:
        return True  # no number on one side: nothing to warn of
    return one.dev < other.dev if metric == "dev.nll" else one.dev > other.dev


def require_names(variants: Sequence[str], baselines: Sequence[str]) -> None:
    """Raise ParamsError when there is no variant or a name is both a variant and a baseline."""
    if not variants:
        raise ParamsError("variants: is empty, so there is nothing to choose from: add one")
    if both := sorted(set(variants) & set(baselines)):
        raise ParamsError(
            f"variants: {', '.join(both)} is also a baseline in compare.baselines or answers: "
            "rename it"
        )


def _require_one_test_set(sheets: Mapping[str, Sheet], names: Sequence[str]) -> None:
    first = sheets[names[0]]
    for name in names[1:]:
        if sheets[name].test_digest != first.test_digest:
            raise DataError(
                f"{name} was scored on other test questions ({TITLES[sheets[name].test_set]}) than "
                f"{names[0]} ({TITLES[first.test_set]}): score both on the same split"
            )
