"""Cells on a real Ray: a cluster that the tests start, and one that the train stage starts for itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from medslm.data.split import Fold
from medslm.errors import Diverged, LeakageError, ParamsError, WorkerLost
from medslm.student import on_ray
from medslm.student.cells import Job
from medslm.student.engines import engine
from medslm.student.on_ray import OnRay, Worker, _folder
from tests.student.cells_world import LEAKING, compute, inputs, jobs, student, tune, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RAY = str(Path(sys.executable).parent / "ray")
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def address():
    """A cluster of two cores, started as a user starts one; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    options = ["--head", "--port=0", "--num-cpus=2", f"--temp-dir={folder}"]
    options += ["--include-dashboard=false", "--object-store-memory=100000000", "--block"]
    options += ["--node-ip-address=127.0.0.1"]
    os.environ.update(SETTINGS)  # of the driver too: they know each other by the token
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [RAY, "start", *options]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield waited_for(lambda: read(folder / "ray_current_cluster"), 60)
    finally:
        for name in SETTINGS:
            if name.startswith("RAY"):
                del os.environ[name]
        process.terminate()
        process.wait(30)
        waited_for(lambda: not holding(str(folder)), 30)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster(address, tiny_llama):
    """An engine on that cluster with two workers for all tests, and their base already loaded."""
    knobs = compute(engine="ray", address=address, retries=1)
    with engine(student(tiny_llama), tune(), knobs) as many:
        yield many


@pytest.fixture(scope="module")
def local(tiny_llama):
    with engine(student(tiny_llama), tune(), compute()) as here:
        yield here


def test_several_processes_inside_a_cell_work_on_ray_too(address, tiny_llama, tmp_path):
    """First, while both cores are free; from a process of its own, since one driver has one Ray."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_ON_RAY, address, str(tiny_llama), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "trained by two" in done.stdout
    waited_for(lambda: not at_work_in(tmp_path), 20)


TWO_ON_RAY = """
import sys
from pathlib import Path
from medslm.student.engines import engine
from tests.student.cells_world import compute, inputs, jobs, student, tune

address, model, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
knobs = compute(engine="ray", address=address, processes=2, cpus_per_cell=2)
with engine(student(model), tune(dropout=0.0), knobs) as on_ray:
    [cell] = on_ray.train(inputs(model, work, dropout=0.0), jobs(0)[:1])
assert (cell.folder / "adapter_model.safetensors").is_file()
print("trained by two")
"""


def test_cells_on_ray_are_those_trained_one_by_one(cluster, local, tiny_llama, tmp_path):
    here = local.train(inputs(tiny_llama, tmp_path / "1"), jobs(0, 1))
    there = cluster.train(inputs(tiny_llama, tmp_path / "2"), jobs(0, 1))

    assert (
        [cell.name for cell in there]
        == [cell.name for cell in here]
        == [
            "fold0-seed0",
            "fold0-seed1",
            "fold1-seed0",
            "fold1-seed1",
        ]
    )
    assert [weights(cell) for cell in there] == [weights(cell) for cell in here]
    assert [cell.history for cell in there] == [cell.history for cell in here]
    assert len({weights(cell) for cell in there}) == 4  # control: other cells have other bytes
    assert cluster.base() == local.base()


def test_a_worker_killed_mid_cell_is_replaced_and_changes_nothing(
    cluster, local, tiny_llama, tmp_path, caplog
):
    long = {"epochs": 12}
    undisturbed = local.train(inputs(tiny_llama, tmp_path / "1", **long), jobs(0))
    world = inputs(tiny_llama, tmp_path / "2", **long)
    killed = kill_once(world.work)

    cells = cluster.train(world, jobs(0))

    assert len(killed) == 1
    assert "lost its worker, goes to another one" in caplog.text
    assert [weights(cell) for cell in cells] == [weights(cell) for cell in undisturbed]


def test_a_cell_that_loses_its_worker_too_often_is_given_up(
    cluster, tiny_llama, tmp_path, monkeypatch
):
    world = inputs(tiny_llama, tmp_path, epochs=60)
    monkeypatch.setattr(cluster, "_compute", cluster._compute.model_copy(update={"retries": 0}))
    monkeypatch.setattr(cluster, "_losses", cluster._losses.__class__())
    killed = kill_once(world.work)

    with pytest.raises(WorkerLost, match="fold0-seed0: lost its worker 1 time"):
        cluster.train(world, [jobs(0)[0]])

    assert len(killed) == 1
    assert list((world.work / "fold0-seed0.checkpoints").glob("step-*"))


def test_errors_of_ours_come_back_as_themselves_and_bugs_with_their_place(
    cluster, tiny_llama, tmp_path
):
    with pytest.raises(LeakageError) as caught:
        cluster.train(inputs(tiny_llama, tmp_path / "1"), [Job(0, 0, LEAKING)])
    assert str(caught.value) == "PMID 2 is in train and dev of the same fold"
    with pytest.raises(Diverged, match=r"lower tune\.lr"):
        cluster.train(inputs(tiny_llama, tmp_path / "2", lr=1e30), [jobs(0)[0]])
    with pytest.raises(ZeroDivisionError, match=r"tuning\.py"):
        cluster.train(inputs(tiny_llama, tmp_path / "3"), [Job(0, 0, Fold(("1",), ()))])


class KilledOnce(Worker):
    """Ends its first cell as Ray does when its own watch over memory kills the worker."""

    def train(self, inputs, expected, job):
        from ray.exceptions import OutOfMemoryError

        mark = inputs.work / "killed"
        if not mark.exists():
            inputs.work.mkdir(parents=True)
            mark.touch()
            raise OutOfMemoryError("the node was running low on memory")
        return super().train(inputs, expected, job)


def test_a_worker_that_ray_kills_for_its_memory_is_replaced(
    cluster, tiny_llama, tmp_path, monkeypatch, caplog
):
    cluster.close()
    cluster._workers.clear()  # the cores are free for workers of the class below
    monkeypatch.setattr(cluster, "_losses", cluster._losses.__class__())
    monkeypatch.setattr(on_ray, "Worker", KilledOnce)

    [cell] = cluster.train(inputs(tiny_llama, tmp_path / "1"), [jobs(0)[0]])

    assert (cell.folder / "adapter_model.safetensors").is_file()
    assert "fold0-seed0: lost its worker, goes to another one (" in caplog.text
    monkeypatch.setattr(cluster, "_compute", cluster._compute.model_copy(update={"retries": 0}))
    with pytest.raises(WorkerLost, match=r"fold0-seed0: lost its worker 2 time"):
        cluster.train(inputs(tiny_llama, tmp_path / "2"), [jobs(0)[0]])


def test_a_cell_larger_than_every_machine_is_refused(cluster, tiny_llama):
    knobs = compute(engine="ray", cpus_per_cell=3)

    with pytest.raises(ParamsError, match=r"asks for 3 CPU\(s\) and 0 GPU\(s\).* offers 2 and 0"):
        OnRay(cluster._ray, student(tiny_llama), tune(), knobs, cluster._stopping)


def test_rays_files_lie_in_the_work_folder_unless_its_path_is_too_long(monkeypatch, tmp_path):
    """A socket's path may have 107 characters; the longest that ray makes is 66 behind its folder."""
    for root, inside in ((Path(tempfile.mkdtemp(prefix="r-")), True), (tmp_path / "long", False)):
        monkeypatch.setenv("DVC_ROOT", str(root))

        folder = _folder()

        assert folder.is_relative_to(root) is inside
        assert len(str(folder)) + 66 <= 103
        folder.rmdir()
        shutil.rmtree(root, ignore_errors=True)


def kill_once(work: Path) -> list[int]:
    """Kill, as the kernel would, the worker of the first cell that has a checkpoint."""
    killed: list[int] = []

    def watch() -> None:
        waited_for(lambda: list(work.glob("*.checkpoints/step-*")), 60)
        lock = next(work.glob("*.checkpoints/step-*")).parent.with_suffix(".lock")
        killed.append(int(lock.read_text()))
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return killed


def waited_for(condition, seconds: float):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return found


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def holding(word: str) -> list[int]:
    """Return the processes whose command line holds ``word``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if word in command:
                found.append(int(entry.name))
    return found


def at_work_in(folder: Path) -> list[int]:
    """Return the processes whose working folder this is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = (entry / "cwd").resolve() == folder.resolve()
            except OSError:
                continue
            if here:
                found.append(int(entry.name))
    return found
