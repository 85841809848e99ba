"""The benchmark drives the real `ask`: small jobs, so that a broken row is found before a long run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.clients import Job, Ours
from benchmarks.rows import Bench
from benchmarks.table import ROWS, markdown
from benchmarks.watch import Server, environment, run
from benchmarks.workload import POISON, studies

from benchmarks import rows


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Server() as server:
        yield Bench(server, limit_s=120.0, shrink=10)


def test_every_study_is_another_one_and_one_alone_is_poisoned():
    made = list(studies(300, 7))

    assert len({study.question for study in made}) == len({study.context for study in made}) == 300
    assert [n for n, study in enumerate(made) if POISON in study.question] == [7]
    assert not any(POISON in study.question for study in studies(300, None))


def test_a_process_is_timed_weighed_and_killed_with_its_children(bench, tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    common = {
        "cwd": tmp_path,
        "env": environment(),
        "log": tmp_path / "log",
        "server": bench.server,
    }

    killed = run([sys.executable, "-c", child], **common, limit_s=60, kill_when=lambda _: True)
    late = run([sys.executable, "-c", child], **common, limit_s=0.5)
    large = "import time; held = b'x' * 60_000_000; time.sleep(0.3)"
    ended = run([sys.executable, "-c", large], **common, limit_s=60)

    assert (killed.rc, killed.stopped) == (None, False)
    assert (late.rc, late.stopped) == (None, True)
    assert (ended.rc, ended.stopped) == (0, False)
    assert ended.peak_mb > 60 > late.peak_mb


def test_a_killed_ask_pays_at_most_twice_what_was_in_flight(bench, tmp_path):
    seen = rows.killed(bench, Ours(), tmp_path / "home")

    assert (seen["rc"], seen["first_rc"], seen["answered"], seen["prompts"]) == (0, None, 30, 30)
    assert 15 <= seen["paid_at_kill"] < 47
    assert seen["re_billed"] <= 32


def test_a_poisoned_row_costs_that_row(bench, tmp_path):
    seen = rows.poison(bench, Ours(), tmp_path / "home")

    assert (seen["rc"], seen["answered"], seen["billed"]) == (0, 29, 29)
    assert (seen["statuses"]["400"], seen["again_requests"]) == (1, 0)


def test_another_system_prompt_is_asked_anew_and_the_same_one_is_not(bench, tmp_path):
    seen = rows.system(bench, Ours(), tmp_path / "home")

    assert (seen["rc"], seen["answered"]) == (0, 10)
    assert (seen["unchanged"], seen["stale"], seen["requests"]) == (0, 0, 10)


def test_random_refusals_cost_no_row(bench, tmp_path):
    seen = rows.flaky(bench, Ours(), tmp_path / "home")

    assert (seen["rc"], seen["answered"], seen["re_billed"]) == (0, 20, 0)
    assert seen["statuses"]["429"] > 0


def test_a_client_that_fails_is_marked_in_its_cell(bench, tmp_path):
    bench.server.reset()
    home = tmp_path / "home"
    good = bench.run(Ours(), home, Job(4, 2))
    (home / "stages/ask.py").write_text("raise SystemExit(7)\n", encoding="utf-8")
    bad = bench.run(Ours(), home, Job(4, 2))

    assert (good["answered"], bad["answered"]) == (4, 0)
    table = markdown({"instant": {"medslm": [bad], "curator": "not run: no --peers"}}, ["medslm"])
    assert "exit 7" in table
    assert "exit" not in markdown({"instant": {"medslm": [good]}}, ["medslm"])


def test_the_ratio_is_ours_over_the_best_peer():
    def at(rate: float) -> rows.Result:
        return {"rate": rate, "rc": 0, "hung": False}

    found = {"medslm": [at(300.0)], "curator": [at(100.0)], "DataDesigner": [at(150.0)]}

    line = markdown({"instant": found}, list(found)).splitlines()[-1]

    assert "| 300/s (n=1) | 100/s (n=1) | 150/s (n=1) | 2.00 |" in line


def test_every_row_has_a_target():
    assert len(ROWS) == 11
    assert all(row.title and row.target for row in ROWS.values())


def test_the_readme_explains_every_row():
    text = (Path(__file__).parents[2] / "benchmarks/README.md").read_text(encoding="utf-8")

    assert all(f"`{key}`" in text for key in ROWS)
