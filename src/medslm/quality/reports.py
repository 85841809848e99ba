"""Evaluate suites on several tables and write what came out: a report each, and the rows that broke one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from medslm.files import write_json, write_jsonl
from medslm.quality.expectations import evaluate
from medslm.quality.expected import Expected, Table
from medslm.quality.verdict import Broken, Report, as_json, file_of, report_of

BROKEN = "broken.jsonl"


class Job(NamedTuple):
    """A suite, what it is about (an ask, a variant, ...) and the table to evaluate it on."""

    suite: str
    subject: str
    table: Table
    expected: Sequence[Expected]


def write_reports(folder: Path, jobs: Iterable[Job]) -> list[Report]:
    """Write every report and the broken rows of all into ``folder``; return the reports."""
    reports, broken = [], []
    for job in sorted(jobs, key=lambda job: (job.suite, job.subject)):
        found = evaluate(job.table, job.expected)
        report = report_of(job.suite, job.subject, found.outcomes)
        write_json(folder / file_of(job.suite, job.subject), as_json(report))
        reports.append(report)
        broken += [Broken(job.suite, job.subject, *row) for row in found.broken.items()]
    write_jsonl(folder / BROKEN, broken)
    return reports


def told(reports: Sequence[Report]) -> str:
    """Return one line on reports for the log."""
    evaluated = sum(report.statistics.evaluated for report in reports)
    critical = sum(report.statistics.failed_critical for report in reports)
    warned = sum(report.statistics.failed_warning for report in reports)
    return (
        f"{len(reports)} report(s), {evaluated} expectations: "
        f"{critical} critical failed, {warned} warned"
    )
