"""The runs stage: `track` runs again exactly when its runs are no longer in the project's database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medslm.files import write_json
from tests.tracking.project import (
    MLFLOW_WARNING,
    Project,
    private_environment,
)

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

STAGE = Path(__file__).parents[2] / "stages" / "runs.py"
REPORT = "reports/mlflow_runs.json"
TRACKED = f"--tracked {REPORT} --out .work/runs".split()


def run(project: Project, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(STAGE), *TRACKED],
        cwd=project.root,
        env={**private_environment(project.root), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def report(project: Project, *run_ids: str) -> Path:
    path = project.root / REPORT
    write_json(path, {"runs": {f"v{i}": {"run_id": one} for i, one in enumerate(run_ids)}})
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.root.mkdir(exist_ok=True)
    return made


@pytest.fixture
def tracked(project: Project) -> tuple[Project, str]:
    """A project whose real database holds one run, and that run's id."""
    from mlflow import MlflowClient

    project.lay_empty_database()
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    return project, str(client.create_run("0").info.run_id)


def test_runs_that_are_there_leave_the_report(tracked):
    project, held = tracked
    path = report(project, held, "gone")

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert path.exists()
    assert "track makes them again" not in done.stderr


@pytest.mark.parametrize("database", ["none", "empty file", "of other runs"])
def test_lost_runs_take_the_report_with_them(project, database):
    path = report(project, "a" * 32)
    if database == "of other runs":
        project.lay_empty_database()
    elif database == "empty file":
        (project.root / "mlflow.db").touch()

    done = run(project)

    assert done.returncode == 0, done.stderr
    assert not path.exists()
    assert "track makes them again" in done.stderr


def test_what_it_writes_is_the_same_whether_they_are_lost_or_not(tracked):
    project, held = tracked
    written = []
    for ids in ([held], ["gone"], []):
        report(project, *ids)
        assert run(project).returncode == 0
        written.append((project.root / ".work/runs").read_bytes())

    assert len(set(written)) == 1


def test_before_the_first_track_there_is_nothing_to_lose(project):
    done = run(project)

    assert done.returncode == 0, done.stderr
    assert (project.root / ".work/runs").exists()
    assert not (project.root / "mlflow.db").exists()


def test_a_server_is_not_asked(project):
    path = report(project, "a" * 32)

    done = run(project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")

    assert done.returncode == 0, done.stderr
    assert path.exists()


def test_the_database_of_the_main_workspace_counts_in_a_temporary_one(tracked, tmp_path):
    home, held = tracked
    temporary = Project(tmp_path / "temporary")
    temporary.root.mkdir(exist_ok=True)
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


def test_a_file_that_is_no_database_and_a_report_that_is_none_are_named(project):
    path = report(project, "a" * 32)
    (project.root / "mlflow.db").write_text("not a database, but long enough to be looked at" * 9)
    broken = run(project)
    (project.root / "mlflow.db").unlink()
    path.write_text('{"runs": [1]}')
    strange = run(project)

    assert broken.returncode == 50
    assert "mlflow.db: file is not a database; close what holds it or move it away" in broken.stderr
    assert strange.returncode == 10
    assert f"{REPORT}: not a report of the track stage; delete it" in strange.stderr
    assert path.exists()


def test_a_database_in_use_is_waited_for_not_taken_for_lost(tracked):
    project, held = tracked
    path = report(project, held)
    with sqlite3.connect(project.root / "mlflow.db") as db:
        db.execute("BEGIN IMMEDIATE")

        assert run(project).returncode == 0  # a writer lets readers through

    assert path.exists()
