"""The track stage, run as DVC runs it: in a process of its own, on files alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from medslm.files import read_json
from medslm.tracking import registry
from tests.tracking.project import (
    MLFLOW_WARNING,
    MODEL,
    Project,
    private_environment,
    require_whole,
)

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

STAGE = Path(__file__).parents[2] / "stages" / "track.py"
FLAGS = (
    "--lock dvc.lock --scores metrics/score --curves metrics/train --compare metrics/compare.json"
)
MORE = "--models models --data data --out reports/mlflow_runs.json"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project").fill()
    made.lay_empty_database()
    return made


COMMAND = [sys.executable, str(STAGE), *FLAGS.split(), *MORE.split()]


def run(project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND,
        cwd=project.root,
        env={**private_environment(project.root), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_runs_are_logged_once_and_written_down_byte_for_byte_the_same(project):
    first = run(project)
    report = project.root / "reports/mlflow_runs.json"
    before = report.read_bytes()
    report.unlink()
    second = run(project)

    assert first.returncode == 0, first.stderr
    assert "3 runs logged, 0 reused; new is medslm-pubmedqa version 1" in first.stderr
    assert "Warning" not in first.stderr
    assert "0 runs logged, 3 reused" in second.stderr
    assert report.read_bytes() == before
    body = read_json(report)
    assert set(body) == {"chosen", "experiment", "runs", "store"}
    assert set(body["runs"]) == {"none", "new", "majority"}
    assert body["chosen"] == {
        "fingerprint": body["runs"]["new"]["fingerprint"],
        "model": "medslm-pubmedqa",
        "variant": "new",
        "version": "1",
    }


def test_a_teachers_answers_are_logged_beside_the_baselines(project):
    project.write_answers("few-shot", teacher="local", shots=3)
    project.relock()

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert "4 runs logged, 0 reused" in done.stderr
    body = read_json(project.root / "reports/mlflow_runs.json")
    assert set(body["runs"]) == {"none", "new", "majority", "few-shot"}


def test_a_deleted_database_is_made_again_with_the_same_fingerprints(project):
    run(project)
    report = project.root / "reports/mlflow_runs.json"
    before = read_json(report)
    project.lay_empty_database()

    again = run(project)

    assert "3 runs logged, 0 reused" in again.stderr
    after = read_json(report)
    assert after["chosen"] == before["chosen"]
    assert after["runs"]["new"]["run_id"] != before["runs"]["new"]["run_id"]


def test_a_metric_that_is_not_finite_is_exit_43_before_mlflow_is_even_loaded(project):
    path = project.root / "metrics/score/none.json"
    path.write_text(path.read_text().replace("0.5", "NaN"))
    project.relock()

    done = run(project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")

    assert done.returncode == 43
    assert "metrics/score/none.json: not finite: dev.macro_f1 = nan" in done.stderr


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("dvc.lock", 10, "dvc.lock: no such file"),
        ("metrics/train/new.csv", 10, "metrics/train/new.csv: no such file"),
        ("metrics/compare.json", 10, "metrics/compare.json: no such file"),
        ("models/new", 10, "models/new: no such file or folder; run `dvc checkout`"),
        ("params.yaml", 2, "params.yaml: no such file"),
    ],
)
def test_a_missing_input_is_one_line_and_its_exit_code(project, path, code, words):
    (project.root / path).rename(project.root / "away")

    done = run(project)

    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_knob_is_named(project):
    project.write_params(track={"experiment": "x", "registered_model": "m", "colour": "red"})

    done = run(project)

    assert done.returncode == 2
    assert "track.colour: Extra inputs are not permitted" in done.stderr


def test_the_store_lies_in_the_main_workspace_when_dvc_runs_elsewhere(project, tmp_path):
    home = Project(tmp_path / "home")
    home.lay_empty_database()
    (project.root / "mlflow.db").unlink()

    done = run(project, DVC_ROOT=str(home.root))

    assert done.returncode == 0, done.stderr
    assert (home.root / "mlruns").is_dir()
    assert not (project.root / "mlruns").exists()
    assert (project.root / "reports/mlflow_runs.json").exists()


def kill_when(project: Project, files: int) -> None:
    """Start the stage and kill it once its store holds so many artifact files."""
    started = subprocess.Popen(
        COMMAND,
        cwd=project.root,
        env=private_environment(project.root),
        stderr=subprocess.DEVNULL,
    )
    store = project.root / "mlruns"
    until = time.monotonic() + 60
    while started.poll() is None and time.monotonic() < until:
        if sum(1 for p in store.rglob("*") if p.is_file()) >= files:
            break
        time.sleep(0.002)
    started.kill()
    started.wait()


@pytest.mark.slow
def test_kills_anywhere_leave_one_run_each_one_version_and_no_open_run(project):
    """Three runs log two files each; the package of the model follows from the seventh file on."""
    for files in (1, 4, 6, 9, 14):
        kill_when(project, files)

    done = run(project)

    assert done.returncode == 0, done.stderr
    with project.store() as store:
        runs = store.client.search_runs([store.experiment_id])
        versions = store.client.search_model_versions(f"name = '{MODEL}'")
        require_whole(store, registry.version(store, MODEL, versions[0].version))
        challenger = registry.alias(store, MODEL, "challenger")
    done_tags = [r.data.tags for r in runs if r.info.status == "FINISHED"]
    finished = [tags["dvc.fingerprint"] for tags in done_tags if "dvc.fingerprint" in tags]
    cells = [tags["medslm.cell"] for tags in done_tags if "dvc.fingerprint" not in tags]
    assert len(finished) == len(set(finished)) == 3
    assert len(cells) == len(set(cells)) > 0
    assert {r.info.status for r in runs} <= {"FINISHED", "KILLED"}
    assert [str(v.version) for v in versions] == [challenger] == ["1"]
