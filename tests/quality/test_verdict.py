"""The gate reads every report and fails for the right ones."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.errors import DataError, GateFailed
from medslm.files import write_json
from medslm.quality.verdict import (
    MIN_EXPECTATIONS,
    Outcome,
    as_json,
    judge,
    read_report,
    report_of,
    require_passed,
    wanted,
)


def outcome(name="is_unique", **overrides):
    fields = {
        "name": name,
        "column": "id",
        "severity": "critical",
        "success": True,
        "observed": None,
        "unexpected_count": 0,
        "ids": (),
        "error": None,
    }
    return Outcome(**{**fields, **overrides})


def report(*extra, ask="a", plain=MIN_EXPECTATIONS):
    return report_of("pairs", ask, [*(outcome(f"n{n}") for n in range(plain)), *extra])


def test_a_report_is_sorted_and_counted():
    made = report_of(
        "pairs",
        "a",
        [
            outcome("z", column=None),
            outcome("b", column="question", success=False),
            outcome("b", column="answer", success=False, severity="warning"),
        ],
    )

    assert [(o.name, o.column) for o in made.expectations] == [
        ("b", "answer"),
        ("b", "question"),
        ("z", None),
    ]
    assert dataclasses.astuple(made.statistics) == (3, 1, 1, 1)


def test_a_report_reads_back_as_it_was_written(tmp_path):
    made = report(outcome("m", observed=0.5, ids=("a:1:0",), success=False))
    write_json(tmp_path / "r.json", as_json(made))

    assert read_report(tmp_path / "r.json", "pairs", "a") == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.update(subject="b"), "report of pairs/b, not of pairs/a"),
        (lambda body: body.update(suite="raw"), "report of raw/a, not of pairs/a"),
        (lambda body: body["statistics"].update(successful=99), "do not match"),
        (lambda body: body.update(expectations=body["expectations"][1:]), "do not match"),
        (lambda body: body["expectations"][0].update(severity="info"), "severity"),
        (lambda body: body["expectations"][0].update(success="yes"), "success"),
        (lambda body: body.pop("expectations"), "expectations"),
        (lambda body: body.update(extra=1), "extra"),
    ],
)
def test_a_report_that_was_tampered_with_is_refused(tmp_path, change, said):
    body = as_json(report())
    change(body)
    write_json(tmp_path / "r.json", body)

    with pytest.raises(DataError, match=said):
        read_report(tmp_path / "r.json", "pairs", "a")


def test_a_missing_report_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_report(tmp_path / "r.json", "pairs", "a")


def test_good_reports_pass():
    verdict = judge([report(ask="a"), report(ask="b")])

    assert (verdict["passed"], verdict["reports_read"]) == (True, 2)
    require_passed(verdict)


def test_no_report_at_all_fails():
    verdict = judge([])

    assert verdict == {"passed": False, "reports_read": 0, "reports": {}}
    with pytest.raises(GateFailed, match="0 of 0"):
        require_passed(verdict)


def test_a_failure_is_told_with_what_was_observed():
    counted = outcome("has_every_answer", column="answer", success=False, observed="yes 40, no 0")
    broken = outcome("is_allowed", success=False, unexpected_count=3)

    with pytest.raises(GateFailed, match=r"was yes 40, no 0, is_allowed\(id\) broken by 3"):
        require_passed(judge([report(counted, broken)]))


def test_every_gate_reads_the_reports_of_its_own_names():
    assert [w.file for w in wanted("inputs", ["a"])] == [
        "raw-questions.json",
        "splits-questions.json",
        "replies-a.json",
    ]
    assert [w.file for w in wanted("mixes", ["none"])] == ["mixes-none.json"]
    assert [w.subject for w in wanted("predictions", ["none"])] == [
        "none",
        "majority",
        "question-only",
        "zero-shot",
    ]


def test_a_failed_critical_expectation_fails_and_a_warning_does_not():
    warned = judge([report(outcome("w", success=False, severity="warning"))])
    failed = judge([report(), report(outcome("c", success=False), ask="b")])

    assert warned["passed"]
    assert warned["reports"]["pairs/a"]["failed_warning"] == ["w(id)"]
    assert not failed["passed"]
    with pytest.raises(GateFailed, match=r"1 of 2 report\(s\) failed; pairs/b: c\(id\)"):
        require_passed(failed)


def test_too_few_expectations_fail():
    assert judge([report()])["passed"]

    with pytest.raises(GateFailed, match="only 14 expectations"):
        require_passed(judge([report(plain=MIN_EXPECTATIONS - 1)]))
