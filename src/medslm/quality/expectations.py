"""The Great Expectations suite on kept pairs: the only module that knows Great Expectations.

Great Expectations 1.24 passes an empty frame, an all-null column and an empty suite, and tells of
an expectation that raised only beside the result. Here a row-count floor, a not-null expectation
for every column, a count of the results and a look into ``exception_info`` make these failures.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from medslm.data.records import ANSWERS
from medslm.quality.parse import EDITS_CONTEXT, INHERITS_ANSWER, LABELS_SOURCE
from medslm.quality.rows import COLUMNS, UNLABELLED, Row
from medslm.quality.verdict import Outcome, Severity

MAX_IDS = 50
DIGITS = 6
# Whether pairs have the gold answer: where there is one, a pseudo-label confirms it.
_KEEPS_GOLD = {INHERITS_ANSWER: True, EDITS_CONTEXT: False, LABELS_SOURCE: True}
_RESTS_ON_GOLD = {INHERITS_ANSWER, EDITS_CONTEXT}
_PROBABILITY_SLACK = 0.001  # ballots are rounded to six digits


def suite(
    *,
    ask: str,
    strategy: str,
    min_kept: int,
    max_answer_share: float,
    balance_severity: Severity,
    min_question_chars: int,
    max_question_chars: int,
    min_context_chars: int,
) -> list[Any]:
    """Return the expectations on the kept pairs of one ask.

    Answers missing or too frequent count as ``balance_severity``; for rewrites only as a warning,
    since they inherit the gold answers.
    """
    balance: Severity = "warning" if strategy == INHERITS_ANSWER else balance_severity
    return [
        *_table(min_kept),
        *_texts(ask, min_question_chars, max_question_chars, min_context_chars),
        *_values(strategy),
        *_probabilities(),
        *_balance(balance, max_answer_share),
    ]


def evaluate(rows: Sequence[Row], expectations: Sequence[Any]) -> list[Outcome]:
    """Evaluate a suite on rows: one outcome per expectation.

    An empty suite, a missing result and an expectation that raises are critical failures.
    """
    if not expectations:
        return [_missing("suite_has_expectations", "the suite is empty")]
    results = _run(rows, expectations)
    outcomes = [_outcome(result) for result in results]
    if len(outcomes) != len(expectations):
        problem = f"{len(outcomes)} results for {len(expectations)} expectations"
        outcomes.append(_missing("every_expectation_has_a_result", problem))
    return outcomes


def _library() -> Any:
    """Import Great Expectations without telemetry and the hundreds of lines it logs."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations
    import great_expectations.expectations

    # this one sets its own level while it is imported
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    return great_expectations


def _run(rows: Sequence[Row], expectations: Sequence[Any]) -> list[dict[str, Any]]:
    import pandas as pd

    gx = _library()
    # with rows, their own columns count, so that a missing or a new one is noticed
    frame = pd.DataFrame(list(rows)) if rows else pd.DataFrame([], columns=[*COLUMNS])
    frame = frame.astype({name: COLUMNS[name] for name in frame.columns if name in COLUMNS})
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("pairs")
        .add_dataframe_asset("kept")
        .add_batch_definition_whole_dataframe("all")
    )
    named = context.suites.add(gx.ExpectationSuite(name="kept", expectations=list(expectations)))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name="kept", data=batch, suite=named)
    )
    result = definition.run(
        batch_parameters={"dataframe": frame},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
    )
    return [entry.to_json_dict() for entry in result.results]


def _outcome(result: Mapping[str, Any]) -> Outcome:
    config = result["expectation_config"]
    found = result["result"] or {}
    error = _error(result["exception_info"])
    ids = {str(entry["id"]) for entry in found.get("unexpected_index_list") or []}
    return Outcome(
        name=config["meta"]["name"],
        column=config["kwargs"].get("column"),
        severity="critical" if error else config["severity"],
        success=bool(result["success"]) and error is None,
        observed=_plain(found.get("observed_value")),
        unexpected_count=found.get("unexpected_count"),
        ids=tuple(sorted(ids)[:MAX_IDS]),
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
        return ", ".join(sorted(str(value) for value in observed))
    return str(observed)


def _table(min_kept: int) -> list[Any]:
    gxe = _library().expectations

    never_null = gxe.ExpectColumnValuesToNotBeNull
    return [
        _named(gxe.ExpectTableRowCountToBeBetween, "enough_rows", min_value=min_kept),
        _named(gxe.ExpectTableColumnsToMatchSet, "has_exactly_its_columns", column_set=[*COLUMNS]),
        _named(gxe.ExpectColumnValuesToBeUnique, "is_unique", column="id"),
        _named(
            gxe.ExpectCompoundColumnsToBeUnique,
            "no_question_twice_per_abstract",
            column_list=["pmid", "folded_question", "context"],
        ),
        *(_named(never_null, "is_never_null", column=column) for column in COLUMNS),
    ]


def _texts(ask: str, low: int, high: int, min_context: int) -> list[Any]:
    gxe = _library().expectations

    one_line = r"^[^\x00-\x1f\x7f]*$"
    shapes = {
        "id": rf"^{re.escape(ask)}:.+:\d+$",
        "reply_key": r"^[0-9a-f]{64}$",
        "pmid": r"^\S+$",
        "folded_question": r"\w",
        "question": one_line,
        "long_answer": one_line,
    }
    match = gxe.ExpectColumnValuesToMatchRegex
    length = gxe.ExpectColumnValueLengthsToBeBetween
    plausible = "has_plausible_length"
    return [
        *(_named(match, "has_its_shape", column=c, regex=regex) for c, regex in shapes.items()),
        _named(match, "ends_in_question_mark", column="question", regex=r"\?$"),
        _named(length, plausible, column="question", min_value=low, max_value=high),
        _named(length, plausible, column="context", min_value=min_context),
    ]


def _values(strategy: str) -> list[Any]:
    gxe = _library().expectations

    allowed: dict[str, list[Any]] = {
        "answer": [*ANSWERS],
        "source_answer": [*ANSWERS],
        "strategy": [strategy],
        "has_source": [True],
        "in_test": [False],
        "clear_of_held_out": [True],
    }
    if strategy in _KEEPS_GOLD:
        allowed["keeps_gold_answer"] = [_KEEPS_GOLD[strategy]]
    if strategy not in _RESTS_ON_GOLD:
        allowed["source_answer"].append(UNLABELLED)
    if strategy != LABELS_SOURCE:
        allowed["differs_from_source"] = [True]
    listed = gxe.ExpectColumnValuesToBeInSet
    counted = gxe.ExpectColumnUniqueValueCountToBeBetween
    same = "is_the_same_throughout"
    return [
        *(_named(listed, "is_allowed", column=c, value_set=v) for c, v in allowed.items()),
        *(_named(counted, same, column=c, min_value=1, max_value=1) for c in ("teacher", "prompt")),
    ]


def _probabilities() -> list[Any]:
    gxe = _library().expectations

    between = gxe.ExpectColumnValuesToBeBetween
    slack = _PROBABILITY_SLACK
    bounds = {
        **{f"p_{answer}": (0.0, 1.0) for answer in ANSWERS},
        "p_sum": (1 - slack, 1 + slack),
    }
    return [
        _named(between, "is_a_probability", column=column, min_value=low, max_value=high)
        for column, (low, high) in bounds.items()
    ]


def _balance(severity: Severity, max_share: float) -> list[Any]:
    gxe = _library().expectations

    mean = gxe.ExpectColumnMeanToBeBetween
    columns = [f"is_{answer}" for answer in ANSWERS]
    return [
        _named(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "has_every_answer",
            severity,
            column="answer",
            value_set=[*ANSWERS],
        ),
        *(
            _named(
                mean, "no_answer_dominates", severity, column=c, min_value=0, max_value=max_share
            )
            for c in columns
        ),
    ]


def _named(kind: Any, name: str, severity: Severity = "critical", **knobs: Any) -> Any:
    return kind(**knobs, severity=severity, meta={"name": name})


def _missing(name: str, problem: str) -> Outcome:
    return Outcome(name, None, "critical", False, None, None, (), problem)
