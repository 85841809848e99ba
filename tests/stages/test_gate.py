"""The stage gate writes its verdict, then fails if it has to."""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stages.gate import main

from medslm.files import read_json, write_json
from medslm.quality.verdict import Outcome, as_json, report_of
from tests.stages.quality_files import PARAMS, run, write_params


def write_report(root, ask, *, failed=()):
    outcomes = [
        Outcome(f"n{n:02}", "id", "critical", f"n{n:02}" not in failed, None, 0, (), None)
        for n in range(20)
    ]
    write_json(root / "checked" / ask / "expectations.json", as_json(report_of(ask, outcomes)))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = copy.deepcopy(PARAMS)
    params["asks"]["local-new"] = {"strategy": "new"}
    write_params(tmp_path, params)
    write_report(tmp_path, "local-rewrite")
    write_report(tmp_path, "local-new")
    return tmp_path


def gate():
    return run(main, "--checked", "checked", "--out", "gate.json")


def test_good_reports_pass(project):
    assert gate().exit_code == 0

    verdict = read_json(project / "gate.json")
    assert verdict["passed"] is True
    assert verdict["asks_checked"] == 2


def test_a_failed_expectation_exits_30_after_the_verdict_is_written(project):
    write_report(project, "local-new", failed=["n03", "n07"])

    result = gate()

    assert result.exit_code == 30
    assert "local-new: n03(id), n07(id)" in result.stderr
    verdict = read_json(project / "gate.json")
    assert verdict["passed"] is False
    assert verdict["asks"]["local-new"]["failed_critical"] == ["n03(id)", "n07(id)"]
    assert verdict["asks"]["local-rewrite"]["passed"] is True


def test_an_ask_without_a_report_exits_10(project):
    (project / "checked" / "local-new" / "expectations.json").unlink()

    result = gate()

    assert result.exit_code == 10
    assert "no such file" in result.stderr


def test_a_report_of_an_ask_that_params_no_longer_list_is_not_read(project):
    write_report(project, "old", failed=["n01"])

    assert gate().exit_code == 0
    assert "old" not in read_json(project / "gate.json")["asks"]


def test_no_asks_pass_and_the_verdict_says_so(project):
    write_params(project, {**PARAMS, "asks": {}})

    assert gate().exit_code == 0
    assert read_json(project / "gate.json") == {"asks": {}, "asks_checked": 0, "passed": True}


def test_the_stage_starts_in_under_a_second(project):
    stage = Path(__file__).parents[2] / "stages" / "gate.py"
    command = [sys.executable, stage, "--checked", "checked", "--out", "gate.json"]

    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(command, cwd=project, check=True)
        seconds.append(time.monotonic() - started)

    assert min(seconds) < 1
