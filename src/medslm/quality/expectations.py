"""Evaluate a suite on a table: the only module that runs Great Expectations.

Great Expectations 1.24 passes an empty frame, an all-null column, an infinite number and an empty
suite, and tells of an expectation that raised only beside the result. Here every table must have
rows, exactly its columns, unique ids, no null and no number that is not finite, whatever its suite
says; the results are counted, and ``exception_info`` is looked into.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from medslm.quality.expected import Expected, Table, each
from medslm.quality.verdict import Outcome, called

MAX_IDS = 50
MAX_VALUES = 20
DIGITS = 6


class Evaluated(NamedTuple):
    """One outcome per expectation, and the expectations that each row broke, by its id."""

    outcomes: list[Outcome]
    broken: dict[str, tuple[str, ...]]


def evaluate(table: Table, suite: Sequence[Expected]) -> Evaluated:
    """Evaluate what every table has to be, and a suite.

    No rows, an empty suite, a missing result and an expectation that raises are critical failures.
    """
    if not suite:
        return Evaluated([_failed("suite_has_expectations", "the suite is empty")], {})
    expected = [*always(table), *suite]
    results = run(table, expected)
    outcomes = [_outcome(result) for result in results]
    if not table.rows:
        outcomes.append(_failed("has_rows", "there is nothing to evaluate"))
    if len(outcomes) < len(expected):
        problem = f"{len(outcomes)} results for {len(expected)} expectations"
        outcomes.append(_failed("every_expectation_has_a_result", problem))
    return Evaluated(outcomes, _by_row(results))


def always(table: Table) -> list[Expected]:
    """Return what is expected of every table."""
    columns = [*table.columns]
    numbers = [column for column, kind in table.columns.items() if kind == "float64"]
    match = {"column_set": columns}
    return [
        Expected("has_exactly_its_columns", "ExpectTableColumnsToMatchSet", match),
        *each("is_unique", "ExpectColumnValuesToBeUnique", ["id"]),
        *each("is_never_null", "ExpectColumnValuesToNotBeNull", columns),
        *each("is_finite", "ExpectColumnValuesToBeFinite", numbers),
    ]


def run(table: Table, expected: Sequence[Expected]) -> list[dict[str, Any]]:
    """Return Great Expectations' own results as plain values, in no particular order."""
    return [entry.to_json_dict() for entry in validation(table, expected).results]


def validation(table: Table, expected: Sequence[Expected]) -> Any:
    """Return Great Expectations' own result object."""
    import pandas as pd

    gx = _library()
    # with rows, their own columns count, so that a missing or a new one is noticed
    known = table.columns
    frame = pd.DataFrame([*table.rows]) if table.rows else pd.DataFrame([], columns=[*known])
    frame = frame.astype({name: known[name] for name in frame.columns if name in known})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("table")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = gx.ExpectationSuite(name="suite", expectations=[_built(one) for one in expected])
    named = context.suites.add(suite)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="suite", data=batch, suite=named)
    )
    return definition.run(
        batch_parameters={"dataframe": frame},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
    )


def _built(expected: Expected) -> Any:
    from medslm.quality.custom import kinds

    name = expected.kind
    kind = kinds().get(name) or getattr(_library().expectations, name)
    return kind(**expected.knobs, severity=expected.severity, meta={"name": expected.name})


def _library() -> Any:
    """Import Great Expectations without telemetry and the hundreds of lines it logs."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations
    import great_expectations.expectations

    # this one sets its own level while it is imported
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    return great_expectations


def _outcome(result: Mapping[str, Any]) -> Outcome:
    config = result["expectation_config"]
    found = result["result"] or {}
    error = _error(result["exception_info"])
    return Outcome(
        name=config["meta"]["name"],
        column=config["kwargs"].get("column"),
        severity="critical" if error else config["severity"],
        success=bool(result["success"]) and error is None,
        observed=_plain(found.get("observed_value")),
        unexpected_count=found.get("unexpected_count"),
        ids=tuple(sorted(_ids(result))[:MAX_IDS]),
        error=error,
    )


def _error(info: Mapping[str, Any]) -> str | None:
    """Return the first line of what was raised, at the top or under the id of a failed metric."""
    entries = [info, *(value for value in info.values() if isinstance(value, dict))]
    messages = [
        str(entry.get("exception_message") or "raised without a message").strip().split("\n")[0]
        for entry in entries
        if entry.get("raised_exception") or entry.get("exception_traceback")
    ]
    return min(messages)[:200] if messages else None


def _plain(observed: object) -> float | int | str | None:
    """Return a value that writes the same on every run; lists become one sorted line."""
    if observed is None or isinstance(observed, int):
        return observed
    if isinstance(observed, float):
        return round(float(observed), DIGITS) if math.isfinite(observed) else str(float(observed))
    if isinstance(observed, (list, tuple, set)):
        values = sorted(str(value) for value in observed)
        return ", ".join(values) if len(values) <= MAX_VALUES else f"{len(values)} values"
    return str(observed)


def _ids(result: Mapping[str, Any]) -> set[str]:
    found = result["result"] or {}
    return {str(entry["id"]) for entry in found.get("unexpected_index_list") or []}


def _by_row(results: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    broken: dict[str, set[str]] = {}
    for result in results:
        config = result["expectation_config"]
        label = called(config["meta"]["name"], config["kwargs"].get("column"))
        for row in _ids(result):
            broken.setdefault(row, set()).add(label)
    return {row: tuple(sorted(broken[row])) for row in sorted(broken)}


def _failed(name: str, problem: str) -> Outcome:
    return Outcome(name, None, "critical", False, None, None, (), problem)
