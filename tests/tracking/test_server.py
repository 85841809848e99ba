"""The same ledger and registry against a real MLflow server, and what an outage of it does."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from medslm.errors import TrackingDown
from medslm.tracking import registry
from tests.tracking.project import (
    MLFLOW_WARNING,
    MODEL,
    Project,
    migrated_database,
    private_environment,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(MLFLOW_WARNING)]


class Server:
    """A real `mlflow server` process on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shutil.copyfile(migrated_database(), folder / "server.db")
        flags = {
            "host": "127.0.0.1",
            "port": self.uri.rpartition(":")[2],
            "workers": "1",
            "backend-store-uri": f"sqlite:///{folder}/server.db",
            "artifacts-destination": str(folder / "artifacts"),
        }
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server"]
            + [word for name, value in flags.items() for word in (f"--{name}", value)],
            cwd=folder,
            env={**private_environment(folder), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise TimeoutError("mlflow server did not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    started = Server(folder)
    try:
        started.wait()
        yield started
    finally:
        if started.process.poll() is None:
            started.stop()


def test_a_server_holds_the_same_ledger_and_registry_and_its_outage_is_told(
    project: Project, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)

    with project.store() as store:
        first, second = project.track(store), project.track(store)
        version = project.register(store, first)
        again = project.register(store, second)
        package = registry.fetch(store, version, tmp_path / "fetched")
        registry.move_aliases(store, MODEL, champion=version.version, previous=None, why="promote")
        champion = registry.alias(store, MODEL, "champion")
        run = store.client.get_run(first["new"].run_id)

    assert [t.run_id for t in first.values()] == [t.run_id for t in second.values()]
    assert (version.version, again.version, champion) == ("1", "1", "1")
    assert run.data.metrics["dev.macro_f1"] == 0.6
    assert {i.dataset.name for i in run.inputs.dataset_inputs} == {"mix-new", "dev", "test"}
    assert (package / "fold0-seed0/adapter_config.json").exists()
    assert not (project.root / "mlruns").exists()

    server.stop()
    started = time.monotonic()
    with pytest.raises(TrackingDown), project.store() as store:
        project.track(store)
    assert time.monotonic() - started < 10
