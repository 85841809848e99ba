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
    return report_of(ask, [*(outcome(f"n{n}") for n in range(plain)), *extra])


def test_a_report_is_sorted_and_counted():
    made = report_of(
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

    assert read_report(tmp_path / "r.json", "a") == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.update(ask="b"), "report of b, not of a"),
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
        read_report(tmp_path / "r.json", "a")


def test_a_missing_report_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_report(tmp_path / "r.json", "a")


def test_good_reports_pass():
    verdict = judge([report(ask="a"), report(ask="b")])

    assert (verdict["passed"], verdict["asks_checked"]) == (True, 2)
    require_passed(verdict)


def test_no_asks_pass_and_the_verdict_says_so():
    verdict = judge([])

    assert verdict == {"passed": True, "asks_checked": 0, "asks": {}}
    require_passed(verdict)


def test_a_failed_critical_expectation_fails_and_a_warning_does_not():
    warned = judge([report(outcome("w", success=False, severity="warning"))])
    failed = judge([report(), report(outcome("c", success=False), ask="b")])

    assert warned["passed"]
    assert warned["asks"]["a"]["failed_warning"] == ["w(id)"]
    assert not failed["passed"]
    with pytest.raises(GateFailed, match=r"1 of 2 ask\(s\) failed; b: c\(id\)"):
        require_passed(failed)


def test_too_few_expectations_fail():
    assert judge([report()])["passed"]

    with pytest.raises(GateFailed, match="only 14 expectations"):
        require_passed(judge([report(plain=MIN_EXPECTATIONS - 1)]))
