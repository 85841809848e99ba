"""Cells are seen in MLflow while they train, and have exactly one run afterwards."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time

import pytest

from medslm.files import read_json, write_json
from medslm.student.feed import SUFFIX, Feed
from medslm.student.follower import followed
from medslm.tracking.cell_runs import CELL, ensure_run
from medslm.tracking.live import TRIES, Live, follow
from tests.tracking.project import EXPERIMENT, MLFLOW_WARNING

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

WORK = "new-0123456789abcdef"
CELL_NAME = "fold0-seed0"


@pytest.fixture
def work(project):
    folder = project.root / ".work/train" / WORK
    folder.mkdir(parents=True)
    project.lay_empty_database()
    return folder


def live_of(project, work):
    return Live(project.root, EXPERIMENT, "new", work, os.getpid())


def feed_of(work):
    return Feed(work / f"{CELL_NAME}{SUFFIX}")


def train(feed, *, steps, epoch=None):
    for step in steps:
        feed.step(step, loss=1 / step, learning_rate=0.001, examples=8)
    if epoch is not None:
        feed.epoch(steps[-1], {"epoch": 1, "step": steps[-1], "dev_loss": epoch})


def cell_runs(store):
    return store.client.search_runs([store.experiment_id], "tags.`medslm.kind` = 'cell'")


def steps_of(store, run, key):
    return sorted(m.step for m in store.client.get_metric_history(run.info.run_id, key))


def test_a_cell_is_seen_while_it_trains_and_finished_when_it_is(project, work):
    live = live_of(project, work)
    with feed_of(work) as feed:
        train(feed, steps=range(1, 6))
        live.carry()
        with project.store() as store:
            [during] = cell_runs(store)
        train(feed, steps=range(6, 11), epoch=0.9)
        feed.end(10)
    live.carry()

    with project.store() as store:
        [after] = cell_runs(store)
        assert steps_of(store, after, "loss") == list(range(1, 11))
        assert steps_of(store, after, "dev_loss") == [10]
    assert during.info.status == "RUNNING"
    assert during.data.metrics["loss"] == pytest.approx(1 / 5)
    assert during.data.metrics["learning_rate"] == 0.001
    assert during.data.metrics["examples_per_s"] > 0
    assert during.data.metrics["system/training_memory_megabytes"] > 10
    assert "system/system_memory_usage_percentage" in during.data.metrics
    assert after.info.status == "FINISHED"
    assert after.info.run_id == during.info.run_id
    assert after.data.tags[CELL] == f"{WORK}/{CELL_NAME}"


def test_the_ledger_takes_the_live_run_over_and_completes_it(project, work):
    with feed_of(work) as feed:
        train(feed, steps=range(1, 11), epoch=1.0)
        live_of(project, work).carry()  # then the server was down until the end
    with project.store() as store:
        [seen] = cell_runs(store)

        tracked = project.track(store)
        again = project.track(store)

        runs = {run.data.tags[CELL]: run for run in cell_runs(store)}
        adopted = runs[f"{WORK}/{CELL_NAME}"]
        assert len(runs) == len(cell_runs(store)) == 2  # one cell each of `none` and `new`
        assert adopted.info.run_id == seen.info.run_id
        assert adopted.info.status == "FINISHED"
        assert adopted.data.tags["mlflow.parentRunId"] == tracked["new"].run_id
        assert steps_of(store, adopted, "dev_loss") == [10, 20]
        assert steps_of(store, adopted, "loss") == list(range(1, 11))
    assert {name: run.run_id for name, run in tracked.items()} == {
        name: run.run_id for name, run in again.items()
    }


def test_a_cell_nobody_saw_gets_its_run_from_the_history_once(project, work):
    with project.store() as store:
        tracked = project.track(store)
        first = {run.info.run_id for run in cell_runs(store)}
        project.track(store)

        runs = cell_runs(store)
        assert {run.info.run_id for run in runs} == first
        assert len(runs) == 2
        [new] = [run for run in runs if run.data.tags["medslm.variant"] == "new"]
        assert steps_of(store, new, "train_loss") == [10, 20]
        assert new.data.tags["mlflow.parentRunId"] == tracked["new"].run_id


def test_models_that_do_not_say_what_shaped_them_get_no_cell_runs(project, work):
    for name in ("none", "new"):
        card = project.root / f"models/{name}/card.json"
        write_json(card, {k: v for k, v in read_json(card).items() if k != "inputs"})
    project.relock()

    with project.store() as store:
        project.track(store)
        assert cell_runs(store) == []


def test_a_ghost_of_a_request_that_was_answered_too_late_is_deleted(project, work):
    key = f"{WORK}/{CELL_NAME}"
    with project.store() as store:
        first = ensure_run(store, key, "new", CELL_NAME)
        ghost = store.client.create_run(
            store.experiment_id, tags={CELL: key, "medslm.kind": "cell", "medslm.variant": "new"}
        )
        assert len(cell_runs(store)) == 2

        project.track(store)

        left = [run.info.run_id for run in cell_runs(store) if run.data.tags[CELL] == key]
        assert left == [first]
        assert store.client.get_run(ghost.info.run_id).info.lifecycle_stage == "deleted"


def test_a_resumed_cell_goes_on_in_its_run_and_repeats_no_step(project, work):
    with feed_of(work) as feed:
        feed.begin(0, threads=2, processes=1)
        train(feed, steps=range(1, 6))
    live_of(project, work).carry(last=True)  # killed here
    with project.store() as store:
        [killed] = cell_runs(store)
    with feed_of(work) as feed:
        feed.begin(3, threads=4, processes=1)
        train(feed, steps=range(4, 9))  # from the checkpoint after step 3
        live_of(project, work).carry()

    with project.store() as store:
        [resumed] = cell_runs(store)
        assert steps_of(store, resumed, "loss") == list(range(1, 9))
        assert steps_of(store, resumed, "threads") == [0, 3]
        assert resumed.data.metrics["threads"] == 4
    assert (killed.info.status, resumed.info.status) == ("KILLED", "RUNNING")
    assert killed.info.run_id == resumed.info.run_id


def test_what_is_not_a_number_or_not_a_whole_line_is_left_out(project, work):
    path = work / f"{CELL_NAME}{SUFFIX}"
    row = {"kind": "step", "step": 1, "time": time.time()}
    good = {**row, "values": {"loss": 0.5}}
    bad = {**row, "step": 2, "values": {"loss": math.nan, "learning_rate": math.inf}}
    path.write_text(f"{json.dumps(good)}\n\n{json.dumps(bad)}\n" + '{"kind": "step", "st')

    live_of(project, work).carry()

    with project.store() as store:
        [run] = cell_runs(store)
        assert steps_of(store, run, "loss") == [1]
    assert "learning_rate" not in run.data.metrics


def test_a_training_that_is_over_soon_opens_nothing(project, work):
    with feed_of(work) as feed:
        train(feed, steps=[1])

    assert follow(live_of(project, work), lambda _: True, after_s=30, every_s=1)

    with project.store() as store:
        assert cell_runs(store) == []


# ---- servers that fail


@contextlib.contextmanager
def hanging():
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def dead():
    """An address at which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("broken", [hanging, dead])
def test_a_server_that_fails_is_given_up_after_a_few_tries(
    project, work, broken, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    passes = []
    with feed_of(work) as feed, broken() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        train(feed, steps=[1, 2])

        shown = follow(
            live_of(project, work), lambda s: bool(passes.append(s)), after_s=0, every_s=1
        )

    assert not shown
    assert len(passes) == 1 + TRIES
    assert caplog.text.count("training goes on") == 1


def test_values_that_could_not_be_sent_are_sent_the_next_time(project, work, monkeypatch):
    live = live_of(project, work)
    with feed_of(work) as feed, dead() as uri:
        train(feed, steps=range(1, 4))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        turns = iter([False, False, True])

        def closed(_):
            if passed := next(turns):
                monkeypatch.delenv("MLFLOW_TRACKING_URI")
            return passed

        assert follow(live, closed, after_s=0, every_s=0)

    with project.store() as store:
        [run] = cell_runs(store)
        assert steps_of(store, run, "loss") == [1, 2, 3]
        assert run.info.status == "KILLED"  # training ended and the cell had not


@pytest.mark.slow
@pytest.mark.parametrize("broken", [hanging, dead])
def test_the_process_beside_training_never_holds_it_up(project, work, broken, monkeypatch):
    """The real process, a server that fails, and a training that must not notice either."""
    with broken() as uri, feed_of(work) as feed:
        flags = {"root": project.root, "experiment": EXPERIMENT, "variant": "new", "work": work}
        flags |= {"after-s": 0, "every-s": 0.2}
        command = [sys.executable, "-m", "medslm.tracking.live"]
        command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        slowest = 0.0
        with followed(command):
            until = time.monotonic() + 6  # MLflow takes about that long to be imported
            step = 0
            while time.monotonic() < until:
                step += 1
                before = time.perf_counter()
                feed.step(step, loss=1.0, learning_rate=0.1, examples=8)
                slowest = max(slowest, time.perf_counter() - before)
                time.sleep(0.01)
            ended = time.monotonic()
        waited = time.monotonic() - ended

    assert slowest < 0.5
    assert waited < 1.0
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(work) not in left
