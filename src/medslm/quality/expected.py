"""What a suite says in plain data: a table with the types of its columns, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.quality.verdict import Severity

Row = dict[str, str | bool | float | None]

PROBABILITY_SLACK = 0.001  # probabilities are rounded to six digits


class Table(NamedTuple):
    """Flat rows with an ``id`` each, and every column with the type it has in a data frame.

    What no expectation of one column could say, like a match with another file, is a boolean that
    was worked out before. No column may hold a null.
    """

    columns: Mapping[str, str]
    rows: Sequence[Row]


class Expected(NamedTuple):
    """One expectation: what a report calls it, and the class of Great Expectations with its knobs."""

    name: str
    kind: str
    knobs: Mapping[str, Any]
    severity: Severity = "critical"


def each(name: str, kind: str, columns: Sequence[str], **knobs: Any) -> list[Expected]:
    """Return the same expectation for several columns."""
    return [Expected(name, kind, {"column": column, **knobs}) for column in columns]


def allowed(values: Mapping[str, Sequence[Any]]) -> list[Expected]:
    """Return, per column, that it holds nothing but these values."""
    kind = "ExpectColumnValuesToBeInSet"
    return [
        Expected("is_allowed", kind, {"column": column, "value_set": [*some]})
        for column, some in values.items()
    ]


def rows_at_least(count: int) -> Expected:
    """Return that a table has so many rows."""
    return Expected("enough_rows", "ExpectTableRowCountToBeBetween", {"min_value": count})


def length(column: str, low: int, high: int | None = None) -> Expected:
    """Return that a text is neither too short nor too long to be what it is called."""
    knobs = {"column": column, "min_value": low, "max_value": high}
    return Expected("has_plausible_length", "ExpectColumnValueLengthsToBeBetween", knobs)


def probabilities() -> list[Expected]:
    """Return that p_yes, p_no and p_maybe are probabilities and p_sum is one."""
    kind, slack = "ExpectColumnValuesToBeBetween", PROBABILITY_SLACK
    columns = [f"p_{answer}" for answer in ANSWERS]
    return [
        *each("is_a_probability", kind, columns, min_value=0.0, max_value=1.0),
        *each("is_a_probability", kind, ["p_sum"], min_value=1 - slack, max_value=1 + slack),
    ]


def balance(column: str, max_share: float, severity: Severity) -> list[Expected]:
    """Return that every answer occurs and none has more than its share; both report the counts."""
    knobs = {"column": column, "answers": [*ANSWERS]}
    return [
        Expected("has_every_answer", "ExpectEveryAnswer", knobs, severity),
        Expected(
            "no_answer_dominates",
            "ExpectNoAnswerToDominate",
            {**knobs, "max_share": max_share},
            severity,
        ),
    ]


def probability_columns(p: Mapping[Answer, float] | None) -> Row:
    """Return the columns that `probabilities` is about; None where there are none."""
    found: Row = {f"p_{answer}": p.get(answer) if p else None for answer in ANSWERS}
    return {**found, "p_sum": sum(p.values()) if p else None}


PROBABILITY_COLUMNS = {**{f"p_{answer}": "float64" for answer in ANSWERS}, "p_sum": "float64"}
