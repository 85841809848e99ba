"""A filled project for every tracking test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.project import Project
from tests.tracking.servers import Server


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project").fill()


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    """The server, with nothing of an earlier test in it."""
    yield running_server
    running_server.process.send_signal(signal.SIGCONT)
    running_server.clear()


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real MLflow server for all tests of a process: it takes many seconds to start."""
    started = Server(tmp_path_factory.mktemp("server"))
    try:
        started.wait()
        yield started
    finally:
        started.stop()
