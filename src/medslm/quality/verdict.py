"""What the expectations said about each ask, and whether the data may be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medslm.errors import DataError, GateFailed
from medslm.files import dump_json, read_json

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Severity = Literal["critical", "warning"]

# Issue 2 asks for at least so many; a report with fewer is not one that `check` writes.
MIN_EXPECTATIONS = 15


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
    """All outcomes of one ask, sorted by name and column."""

    __pydantic_config__ = _STRICT
    ask: str
    expectations: tuple[Outcome, ...]
    statistics: Statistics


def report_of(ask: str, outcomes: Sequence[Outcome]) -> Report:
    """Put outcomes into their order and count them."""
    ordered = tuple(sorted(outcomes, key=lambda o: (o.name, o.column or "")))
    return Report(ask, ordered, statistics(ordered))


def statistics(outcomes: Sequence[Outcome]) -> Statistics:
    """Count outcomes."""
    failed = [outcome.severity for outcome in outcomes if not outcome.success]
    return Statistics(
        evaluated=len(outcomes),
        successful=len(outcomes) - len(failed),
        failed_critical=failed.count("critical"),
        failed_warning=failed.count("warning"),
    )


def read_report(path: Path, ask: str) -> Report:
    """Read the report of ``ask``; DataError if it is missing, damaged or another ask's."""
    value = read_json(path)
    try:
        report: Report = TypeAdapter(Report).validate_json(dump_json(value))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: not a report of expectations: {where}: {first['msg']}") from exc
    if report.ask != ask:
        raise DataError(f"{path}: this is the report of {report.ask}, not of {ask}; check again")
    if report.statistics != statistics(report.expectations):
        raise DataError(f"{path}: its statistics do not match its expectations; check again")
    return report


def judge(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the verdict: passed unless a critical expectation failed or too few were evaluated.

    No report at all passes, since then nothing generated is trained on; the verdict says so.
    """
    asks = {report.ask: _judge_one(report) for report in reports}
    return {
        "passed": all(verdict["passed"] for verdict in asks.values()),
        "asks_checked": len(asks),
        "asks": asks,
    }


def require_passed(verdict: dict[str, Any]) -> None:
    """Raise GateFailed with the failed critical expectations of every ask."""
    if verdict["passed"]:
        return
    failed = [
        f"{ask}: {', '.join(found['failed_critical'])}"
        for ask, found in sorted(verdict["asks"].items())
        if not found["passed"]
    ]
    raise GateFailed(
        f"{len(failed)} of {verdict['asks_checked']} ask(s) failed; {'; '.join(failed)}; "
        "see expectations.json of these asks, then mend the prompts, the teacher or the limits"
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
        f"{outcome.name}({outcome.column})" if outcome.column else outcome.name
        for outcome in report.expectations
        if not outcome.success and outcome.severity == severity
    ]
