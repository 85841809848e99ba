"""The store is found, and a store that fails is one line and one exit code."""

from __future__ import annotations

import shutil
import socket
import time

import pytest

from medslm.errors import TrackingDown
from medslm.tracking.store import opened, tracking_uri
from tests.tracking.project import EXPERIMENT, MLFLOW_WARNING, Project

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def test_the_default_store_is_the_projects_own_by_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert tracking_uri(tmp_path / "." / "x") == f"sqlite:///{tmp_path}/x/mlflow.db"


def test_a_named_store_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")

    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"


def test_a_server_that_is_down_is_an_error_within_ten_seconds(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    started = time.monotonic()

    with (
        pytest.raises(TrackingDown, match="local results are kept") as caught,
        opened(tmp_path, "x"),
    ):
        pass

    assert time.monotonic() - started < 10
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 50


def test_a_database_that_is_damaged_is_one_line(project):
    (project.root / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"garbage" * 500)

    with pytest.raises(TrackingDown, match=r"mlflow\.db failed"), project.store():
        pass


def test_a_project_that_was_moved_is_told_so_and_one_that_was_not_is_opened(project, tmp_path):
    with project.store() as store:
        project.track(store)
    moved = Project(tmp_path / "moved")
    shutil.copytree(project.root, moved.root)

    with pytest.raises(TrackingDown, match=r"the project is now at .*moved"), moved.store():
        pass
    with project.store():
        pass


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(project):
    with project.store() as store:
        store.client.delete_experiment(store.experiment_id)

    with (
        pytest.raises(TrackingDown, match="experiments restore -x"),
        opened(project.root, EXPERIMENT),
    ):
        pass
