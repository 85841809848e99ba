"""What MLflow did not take waits whole, survives every change of the project, and is sent once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from functools import partial

import pytest
from click.testing import CliRunner

from medslm.cli import main
from medslm.errors import DataError, TrackingDown
from medslm.tracking import spool
from medslm.tracking.ledger import track
from tests.tracking.project import EXPERIMENT, MLFLOW_WARNING, Project, dumped

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def runs(store):
    return store.client.search_runs([store.experiment_id], "tags.`dvc.fingerprint` != ''")


def test_a_record_comes_back_as_it_was_kept(project):
    found = project.records()

    spool.keep(project.root, EXPERIMENT, found)

    waiting = {
        item.record.name: dumped(asdict(item.record)) for item in spool.waiting(project.root)
    }
    assert {r.name: dumped(asdict(r)) for r in found} == waiting
    assert waiting["new"] != waiting["none"]


def test_what_is_kept_twice_waits_once(project):
    assert spool.keep(project.root, EXPERIMENT, project.records()) == 3
    assert spool.keep(project.root, EXPERIMENT, project.records()) == 3
    assert spool.keep(project.root, "another", project.records()) == 6


def test_only_an_mlflow_that_fails_makes_records_wait(project):
    said = r"gone; 3 run\(s\) wait in \.work/spool: `medslm sync`"
    with (
        pytest.raises(TrackingDown, match=said),
        spool.kept_if_down(project.root, EXPERIMENT, project.records()),
    ):
        raise TrackingDown("gone")
    other = Project(project.root.parent / "other")
    with pytest.raises(DataError), spool.kept_if_down(other.root, EXPERIMENT, project.records()):
        raise DataError("something else")

    assert len(spool.waiting(project.root)) == 3
    assert spool.waiting(other.root) == []


def test_sync_sends_what_waited_once_though_the_project_has_moved_on(project, monkeypatch):
    spool.keep(project.root, EXPERIMENT, project.records())
    project.write_variant("new", 0.8)
    project.relock()
    monkeypatch.chdir(project.root)
    project.lay_empty_database()

    first = CliRunner().invoke(main, ["sync"])
    second = CliRunner().invoke(main, ["sync"])

    assert (first.exit_code, first.output.splitlines()[0]) == (
        0,
        "3 run(s) that waited are in MLflow now",
    )
    assert second.output.splitlines()[0] == "0 run(s) that waited are in MLflow now"
    with project.store() as store:
        scores = {
            r.data.tags["medslm.variant"]: r.data.metrics["dev.macro_f1"] for r in runs(store)
        }
        tracked = project.track(store)
        assert len(runs(store)) == 4
    assert scores == {"none": 0.5, "new": 0.6, "majority": 0.3}
    assert [name for name, run in tracked.items() if not run.reused] == ["new"]


def test_a_kill_before_a_sent_record_is_forgotten_makes_no_second_run(project):
    spool.keep(project.root, EXPERIMENT, project.records())
    with project.store() as store:
        project.track(store)

        assert spool.send(project.root, EXPERIMENT, partial(track, store)) == 3

        assert len(runs(store)) == 3
    assert spool.waiting(project.root) == []


def test_what_fails_again_waits_on(project):
    spool.keep(project.root, EXPERIMENT, project.records())

    def fail(found):
        raise TrackingDown("still gone")

    with pytest.raises(TrackingDown):
        spool.send(project.root, EXPERIMENT, fail)

    assert len(spool.waiting(project.root)) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"experiment": "x", "record": {"name": 1}}'])
def test_a_damaged_file_is_named(project, text):
    spool.keep(project.root, EXPERIMENT, project.records())
    damaged = spool.waiting(project.root)[1].path
    damaged.write_text(text)

    with pytest.raises(DataError, match=damaged.name):
        spool.waiting(project.root)


def test_sync_with_a_server_that_is_down_is_exit_50_and_loses_nothing(project, monkeypatch):
    spool.keep(project.root, EXPERIMENT, project.records())
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    done = CliRunner().invoke(main, ["sync"])

    assert done.exit_code == 50
    assert len(spool.waiting(project.root)) == 3


def test_sync_starts_without_mlflow_when_nothing_waits(project):
    code = "import sys; from pathlib import Path; from medslm.tracking.sync import sync\n"
    code += "sync(Path(sys.argv[1]), None); print('mlflow' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code, str(project.root)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
