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
from medslm.quality.verdict import Outcome, as_json, report_of, wanted
from tests.stages.quality_files import PARAMS, run, write_params

FLAGS = (
    *("--what", "inputs", "--reports", "reports", "--checked", "checked"),
    *("--out", "gate.json"),
)


def write_report(root, ask, *, failed=(), suite="pairs", file=None):
    outcomes = [
        Outcome(f"n{n:02}", "id", "critical", f"n{n:02}" not in failed, None, 0, (), None)
        for n in range(20)
    ]
    path = root / (file or f"checked/{ask}/expectations.json")
    write_json(path, as_json(report_of(suite, ask, outcomes)))


def write_reports(root, what, names, **knobs):
    for one in wanted(what, names):
        file = f"reports/{one.file}"
        write_report(root, one.subject, suite=one.suite, file=file, **knobs)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = copy.deepcopy(PARAMS)
    params["asks"]["local-new"] = {"strategy": "new"}
    write_params(tmp_path, params)
    write_report(tmp_path, "local-rewrite")
    write_report(tmp_path, "local-new")
    write_reports(tmp_path, "inputs", ["local-rewrite", "local-new"])
    return tmp_path


def gate():
    return run(main, *FLAGS)


def test_good_reports_pass(project):
    assert gate().exit_code == 0

    verdict = read_json(project / "gate.json")
    assert verdict["passed"] is True
    assert verdict["reports_read"] == 6


def test_a_failed_expectation_exits_30_after_the_verdict_is_written(project):
    write_report(project, "local-new", failed=["n03", "n07"])

    result = gate()

    assert result.exit_code == 30
    assert "pairs/local-new: n03(id), n07(id)" in result.stderr
    verdict = read_json(project / "gate.json")
    assert verdict["passed"] is False
    assert verdict["reports"]["pairs/local-new"]["failed_critical"] == ["n03(id)", "n07(id)"]
    assert verdict["reports"]["pairs/local-rewrite"]["passed"] is True


def test_an_ask_without_a_report_exits_10(project):
    (project / "checked" / "local-new" / "expectations.json").unlink()

    result = gate()

    assert result.exit_code == 10
    assert "no such file" in result.stderr


def test_a_report_of_an_ask_that_params_no_longer_list_is_not_read(project):
    write_report(project, "old", failed=["n01"])

    assert gate().exit_code == 0
    assert "pairs/old" not in read_json(project / "gate.json")["reports"]


def test_without_asks_the_raw_questions_and_the_parts_are_still_judged(project):
    write_params(project, {**PARAMS, "asks": {}})

    assert gate().exit_code == 0
    assert set(read_json(project / "gate.json")["reports"]) == {
        "raw/questions",
        "splits/questions",
    }


@pytest.mark.parametrize("what", ["mixes", "predictions"])
def test_training_sets_and_predictions_have_gates_of_their_own(project, what):
    write_params(project, {**PARAMS, "variants": {"none": [], "combined": ["local-rewrite"]}})
    flags = ("--what", what, "--reports", "reports", "--out", "gate.json")
    write_reports(project, what, ["none", "combined"])
    assert run(main, *flags).exit_code == 0

    write_reports(project, what, ["none"], failed=["n03"])
    failed = run(main, *flags)
    (project / "reports" / f"{what}-combined.json").unlink()

    assert failed.exit_code == 30
    assert f"{what}/none: n03(id)" in failed.stderr
    assert run(main, *flags).exit_code == 10


def test_the_stage_starts_in_under_a_second(project):
    stage = Path(__file__).parents[2] / "stages" / "gate.py"
    command = [sys.executable, stage, *FLAGS]

    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(command, cwd=project, check=True)
        seconds.append(time.monotonic() - started)

    assert min(seconds) < 1
