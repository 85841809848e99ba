"""What the expectations said about each part of the data, and whether it may be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medslm.errors import DataError, GateFailed
from medslm.files import dump_json, read_json

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Severity = Literal["critical", "warning"]

# A report with fewer is not one that a stage writes: the smallest suite has more.
MIN_EXPECTATIONS = 15
PAIRS_REPORT = "expectations.json"  # beside the kept pairs of an ask
BASELINES = ("majority", "question-only", "zero-shot")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One expectation's result, without anything that changes between runs on the same data.

    ``ids`` are the first 50 pairs that broke it; ``error`` says why it could not be evaluated.
    """

    __pydantic_config__ = _STRICT
    name: str
    column: str | None
    severity: Severity
    success: bool
    observed: float | int | str | None
    unexpected_count: int | None
    ids: tuple[str, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """How many expectations there were and how they ended."""

    __pydantic_config__ = _STRICT
    evaluated: int
    successful: int
    failed_critical: int
    failed_warning: int


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes of one suite on one thing (an ask, a variant, ...), sorted by name and column."""

    __pydantic_config__ = _STRICT
    suite: str
    subject: str
    expectations: tuple[Outcome, ...]
    statistics: Statistics


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that broke expectations, joined to the data by ``id``; each reads name(column)."""

    __pydantic_config__ = _STRICT
    suite: str
    subject: str
    id: str
    expectations: tuple[str, ...]


def report_of(suite: str, subject: str, outcomes: Sequence[Outcome]) -> Report:
    """Put outcomes into their order and count them."""
    ordered = tuple(sorted(outcomes, key=lambda o: (o.name, o.column or "", o.severity)))
    return Report(suite, subject, ordered, statistics(ordered))


class Wanted(NamedTuple):
    """A report that has to be there, and its file."""

    suite: str
    subject: str
    file: str


def wanted(what: str, names: Sequence[str]) -> list[Wanted]:
    """Return the reports that a gate reads: on inputs (names are asks), mixes or predictions."""
    subjects = {
        "inputs": [
            ("raw", "questions"),
            ("splits", "questions"),
            *(("replies", name) for name in names),
        ],
        "mixes": [("mixes", name) for name in names],
        "predictions": [("predictions", name) for name in [*names, *BASELINES]],
    }[what]
    return [Wanted(suite, subject, file_of(suite, subject)) for suite, subject in subjects]


def file_of(suite: str, subject: str) -> str:
    """Return the name of a report's file."""
    return f"{suite}-{subject}.json"


def called(name: str, column: str | None) -> str:
    """Return how an expectation is called where no row of a report is at hand."""
    return f"{name}({column})" if column else name


def statistics(outcomes: Sequence[Outcome]) -> Statistics:
    """Count outcomes."""
    failed = [outcome.severity for outcome in outcomes if not outcome.success]
    return Statistics(
        evaluated=len(outcomes),
        successful=len(outcomes) - len(failed),
        failed_critical=failed.count("critical"),
        failed_warning=failed.count("warning"),
    )


def read_report(path: Path, suite: str, subject: str) -> Report:
    """Read a report; DataError if it is missing, damaged or another one's."""
    value = read_json(path)
    try:
        report: Report = TypeAdapter(Report).validate_json(dump_json(value))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: not a report of expectations: {where}: {first['msg']}") from exc
    if (report.suite, report.subject) != (suite, subject):
        raise DataError(
            f"{path}: this is the report of {report.suite}/{report.subject}, not of "
            f"{suite}/{subject}; validate again"
        )
    if report.statistics != statistics(report.expectations):
        raise DataError(f"{path}: its statistics do not match its expectations; validate again")
    return report


def judge(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the verdict: passed unless a critical expectation failed or too few were evaluated.

    No report at all fails: then nothing was looked at.
    """
    found = {f"{report.suite}/{report.subject}": _judge_one(report) for report in reports}
    return {
        "passed": bool(found) and all(verdict["passed"] for verdict in found.values()),
        "reports_read": len(reports),
        "reports": found,
    }


def require_passed(verdict: dict[str, Any]) -> None:
    """Raise GateFailed with the failed critical expectations and what was observed instead."""
    if verdict["passed"]:
        return
    failed = [
        f"{name}: {', '.join(found['failed_critical'])}"
        for name, found in sorted(verdict["reports"].items())
        if not found["passed"]
    ]
    raise GateFailed(
        f"{len(failed)} of {verdict['reports_read']} report(s) failed"
        f"{''.join(f'; {line}' for line in failed)}; the reports name the rows; "
        "mend the data, the prompts, the teacher or the limits"
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values to write."""
    return asdict(report)


def _judge_one(report: Report) -> dict[str, Any]:
    critical = _failed(report, "critical")
    if report.statistics.evaluated < MIN_EXPECTATIONS:
        critical.append(f"only {report.statistics.evaluated} expectations were evaluated")
    return {
        "passed": not critical,
        "evaluated": report.statistics.evaluated,
        "failed_critical": critical,
        "failed_warning": _failed(report, "warning"),
    }


def _failed(report: Report, severity: Severity) -> list[str]:
    return [
        _told(outcome)
        for outcome in report.expectations
        if not outcome.success and outcome.severity == severity
    ]


def _told(outcome: Outcome) -> str:
    name = called(outcome.name, outcome.column)
    if outcome.observed is not None:
        return f"{name} was {outcome.observed}"
    if outcome.unexpected_count:
        return f"{name} broken by {outcome.unexpected_count}"
    return name
