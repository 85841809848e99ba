"""The runs stage: `track` runs again exactly when its runs are of other results or lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medslm.files import read_json, write_json
from tests.tracking.project import (
    MLFLOW_WARNING,
    Project,
    private_environment,
)

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

STAGE = Path(__file__).parents[2] / "stages" / "runs.py"
REPORT, OUT = "reports/mlflow_runs.json", "reports/fingerprints.json"
FLAGS = f"--lock dvc.lock --scores metrics/score --tracked {REPORT} --out {OUT}".split()


def run(project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(STAGE), *FLAGS],
        cwd=project.root,
        env={**private_environment(project.root), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def report(project: Project, *run_ids: str, store: str = "own") -> Path:
    path = project.root / REPORT
    runs = {f"v{i}": {"run_id": one} for i, one in enumerate(run_ids)}
    write_json(path, {"runs": runs, "store": store})
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").fill()


@pytest.fixture
def tracked(project: Project) -> tuple[Project, str]:
    """A project whose real database holds one run, and that run's id."""
    from mlflow import MlflowClient

    project.lay_empty_database()
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    return project, str(client.create_run("0").info.run_id)


def test_runs_that_are_there_leave_the_report(tracked):
    project, held = tracked
    path = report(project, held)

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert path.exists()
    assert "again" not in done.stderr


def test_one_run_that_is_lost_is_enough(tracked):
    """A backup of yesterday holds the older ones."""
    project, held = tracked
    path = report(project, held, "a" * 32)

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert "mlflow.db holds 1 of 2 runs: track makes the runs of" in done.stderr


@pytest.mark.parametrize(
    ("database", "why"),
    [
        ("none", "is not there"),
        ("empty file", "no such table"),  # such as `mlflow ui` leaves when it is killed early
        ("of other runs", "holds 0 of 1 runs"),
        ("not one", "file is not a database"),
    ],
)
def test_lost_runs_take_the_report_with_them(project, database, why):
    path = report(project, "a" * 32)
    if database == "of other runs":
        project.lay_empty_database()
    elif database != "none":
        text = "" if database == "empty file" else "no database, but long enough to look at" * 9
        (project.root / "mlflow.db").write_text(text)

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert why in done.stderr


def test_a_report_with_merge_markers_is_written_anew(tracked):
    project, held = tracked
    path = report(project, held)
    path.write_text(f"<<<<<<< ours\n{path.read_text()}")

    assert run(project).returncode == 0
    assert not path.exists()


def test_what_it_writes_names_results_and_nothing_of_the_database(tracked):
    project, held = tracked
    written = []
    for ids in ([held], ["gone"], []):
        report(project, *ids)
        assert run(project).returncode == 0
        written.append((project.root / OUT).read_bytes())
    expected = {one.name: one.fingerprint for one in project.records()}
    same = read_json(project.root / OUT)
    project.write_params(tune={"lr": 0.9})
    project.relock()
    assert run(project).returncode == 0
    other = read_json(project.root / OUT)

    assert len(set(written)) == 1
    assert same == expected
    assert same.keys() == other.keys()
    assert same["none"] != other["none"]  # track has to run, though no metric changed


def test_before_the_first_track_there_is_nothing_to_lose(project):
    done = run(project)

    assert done.returncode == 0, done.stderr
    assert (project.root / OUT).exists()
    assert not (project.root / "mlflow.db").exists()


def test_a_server_is_not_asked_and_its_runs_are_not_replaced_by_private_ones(project):
    path = report(project, "a" * 32)

    done = run(project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")

    assert done.returncode == 0, done.stderr
    assert path.exists()
    report(project, "a" * 32, store="server")  # and here the variable is not set
    assert run(project).returncode == 0
    assert path.exists()
    report(project, "a" * 32)
    assert run(project, MLFLOW_TRACKING_URI="").returncode == 0  # the own database, as for track
    assert not path.exists()


def test_the_database_of_the_main_workspace_counts_in_a_temporary_one(tracked, tmp_path):
    home, held = tracked
    temporary = Project(tmp_path / "temporary").fill()
    path = report(temporary, held)

    assert run(temporary, DVC_ROOT=str(home.root)).returncode == 0
    assert path.exists()
    assert run(temporary, DVC_ROOT=str(temporary.root)).returncode == 0
    assert not path.exists()


def test_a_run_deleted_by_hand_stays_deleted(tracked):
    from mlflow import MlflowClient

    project, held = tracked
    path = report(project, held)
    MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}").delete_run(held)

    assert run(project).returncode == 0
    assert path.exists()


def test_a_database_in_use_is_read(tracked):
    project, held = tracked
    path = report(project, held)
    with sqlite3.connect(project.root / "mlflow.db") as db:
        db.execute("BEGIN IMMEDIATE")

        assert run(project).returncode == 0  # a writer lets readers through

    assert path.exists()


def test_a_result_that_was_never_made_is_named(project):
    project.write_params(variants={**project.params["variants"], "later": []})

    done = run(project)

    assert done.returncode == 10
    assert "never ran: mix@later" in done.stderr
