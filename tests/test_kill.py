"""A killed `dvc repro` leaves its stage running as an orphan: nothing is lost, nothing runs twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from medslm.data.records import Exchange
from medslm.files import read_jsonl, sha256_of
from tests.project import MEDSLM, Project
from tests.teacher.asked import OPENAI
from tests.teacher.fake_endpoint import Received, echo, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(project: Project, target: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [MEDSLM, "run", target],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def run(project: Project, target: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MEDSLM, "run", target],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def processes(word: str, root: Path) -> list[int]:
    """Return the processes whose command holds ``word`` and whose folder is ``root``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                here = (entry / "cwd").resolve() == root.resolve()
            except OSError:
                continue
            if here and any(word in part for part in command):
                found.append(int(entry.name))
    return found


def wait_until(condition, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_dvc(project: Project) -> None:
    """Kill `dvc repro` as the kernel would, but not the stage it started; `medslm run` reaps it."""
    stage = set(processes("stages/", project.root))
    victims = set(processes("bin/dvc", project.root)) - stage
    assert stage
    assert len(victims) == 1
    os.kill(victims.pop(), signal.SIGKILL)


@pytest.fixture
def project(tmp_path, tiny_llama):
    return Project(tmp_path / "project", tiny_llama)


@pytest.fixture(autouse=True)
def _no_process_left(tmp_path):
    yield
    for pid in processes("", tmp_path / "project"):
        kill(pid)


def slow(request: Received, _: int):
    answer = echo(request)
    answer.delay_s = 1.0
    return answer


def test_a_kill_while_asking_pays_for_nothing_twice(project):
    with serving() as endpoint:
        endpoint.respond = slow
        project.set(
            "teachers.api",
            {
                **OPENAI,
                "base_url": endpoint.url,
                "key_env": None,
                "concurrency": 2,
                "timeout_s": 20,
            },
        )
        project.set("asks.reworded.teacher", "api")
        with start(project, "ask@reworded"):
            wait_until(lambda: len(endpoint.requests) >= 4)
            kill_dvc(project)
        assert processes("stages/ask.py", project.root)

        second = run(project, "ask@reworded")

        assert second.returncode == 41
        assert "is already being worked on by process" in second.stderr
        wait_until(lambda: not processes("stages/ask.py", project.root))
        third = run(project, "ask@reworded")

    assert third.returncode == 0, third.stderr
    rows = read_jsonl(project.root / "data/replies/reworded.jsonl", Exchange)
    assert len(rows) == 18
    assert all(row.content for row in rows)
    sent = Counter(request.text + str(request.body["seed"]) for request in endpoint.requests)
    assert len(sent) == 18
    assert set(sent.values()) == {1}
    assert "0 asked, 18 reused" in third.stderr


def test_a_kill_while_training_trains_no_second_copy_and_loses_nothing(project):
    project.set("tune.epochs", 40)
    project.repro("features")
    with start(project, "train@none"):
        wait_until(lambda: list(project.root.glob(".work/train/*/*.checkpoints/step-*")))
        kill_dvc(project)
    assert processes("stages/train.py", project.root)

    second = run(project, "train@none")

    assert second.returncode == 41
    for orphan in processes("stages/train.py", project.root):  # the shell too, where it stays
        kill(orphan)
    wait_until(lambda: not processes("stages/train.py", project.root))
    resumed = run(project, "train@none")
    adapter = project.root / "models/none/fold0-seed0/adapter_model.safetensors"
    after_kill = sha256_of(adapter)

    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step" in resumed.stderr
    again = run(project, "train@none")
    assert again.returncode == 0
    assert "Running" not in again.stdout

    for folder in project.root.glob(".work/train/none-*"):
        folder.rename(project.root / "aside")
    adapter.unlink()
    (project.root / "dvc.lock").unlink()
    project.repro("mix@none")
    undisturbed = subprocess.run(
        ["dvc", "repro", "--force", "--single-item", "train@none"],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert "going on from step" not in undisturbed.stderr
    assert sha256_of(adapter) == after_kill
