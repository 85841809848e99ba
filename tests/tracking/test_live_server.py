"""The process beside training against a real MLflow server: seen live, stopped in the middle, taken over."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from medslm.student.feed import SUFFIX, Feed
from medslm.student.follower import followed
from medslm.tracking.cell_runs import CELL
from tests.tracking.project import EXPERIMENT, MLFLOW_WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(MLFLOW_WARNING)]

WORK = "new-0123456789abcdef"
NAME = "fold0-seed0"


@pytest.fixture
def work(project, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    folder = project.root / ".work/train" / WORK
    folder.mkdir(parents=True)
    return folder


def command(project, work):
    flags = {"root": project.root, "experiment": EXPERIMENT, "variant": "new", "work": work}
    flags |= {"after-s": 0, "every-s": 0.3}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "medslm.tracking.live", *words]


def runs_of(store):
    return store.client.search_runs([store.experiment_id], f"tags.`{CELL}` = '{WORK}/{NAME}'")


def seen(store, at_least):
    """Wait until the cell's run holds a loss of that step or a later one; return the run."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for run in runs_of(store):
            steps = [m.step for m in store.client.get_metric_history(run.info.run_id, "loss")]
            if steps and max(steps) >= at_least:
                return run
        time.sleep(0.2)
    raise TimeoutError("the cell was not seen")


def test_a_server_that_is_stopped_in_the_middle_costs_nothing_and_leaves_one_run(
    project, work, server
):
    with project.store() as store, Feed(work / f"{NAME}{SUFFIX}") as feed:
        slowest = 0.0

        def step(number):
            nonlocal slowest
            before = time.perf_counter()
            feed.step(number, loss=1 / number, learning_rate=0.1, examples=8)
            slowest = max(slowest, time.perf_counter() - before)

        with followed(command(project, work)):
            step(1)
            step(2)
            live = seen(store, 2)
            server.process.send_signal(signal.SIGSTOP)
            for number in range(3, 200):
                step(number)
                time.sleep(0.01)
            ended = time.monotonic()
        waited = time.monotonic() - ended
        server.process.send_signal(signal.SIGCONT)
        tracked = project.track(store)
        project.track(store)

        [run] = runs_of(store)
        assert run.info.run_id == live.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == tracked["new"].run_id
        history = store.client.get_metric_history(run.info.run_id, "dev_loss")
        assert sorted(m.step for m in history) == [10, 20]
    assert live.info.status == "RUNNING"
    assert slowest < 0.5
    assert waited < 1
