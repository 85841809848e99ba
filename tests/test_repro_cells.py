"""One variant's cells, three seeds of two folds, through `dvc repro`: here and on Ray the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from medslm.files import sha256_of
from tests.project import MEDSLM, Project
from tests.student.test_on_ray import at_work_in, holding, waited_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def project(tmp_path, tiny_llama):
    project = Project(tmp_path / "project", tiny_llama)
    project.set("split.folds", [0, 1])
    project.set("tune.seeds", [0, 1, 2])
    project.set("compute.cpus_per_cell", 1)
    return project


def models(project: Project) -> dict[str, str]:
    folder = project.root / "models/none"
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): sha256_of(file) for file in files}


def again_from_nothing(project: Project) -> None:
    """Run the train stage without DVC's run cache and without what .work has of it."""
    for folder in (project.root / ".work/train").glob("none-*"):
        folder.rename(folder.with_name(f"aside-{time.monotonic_ns()}"))
    project.dvc("repro", "--force", "--single-item", "train@none")


def test_six_cells_have_the_same_bytes_here_and_on_ray(project):
    project.repro("train@none")
    here = models(project)
    curves = (project.root / "metrics/train/none.csv").read_bytes()

    project.set("compute.engine", "ray")
    assert "train@none" not in project.repro("train@none")  # it changes no result
    again_from_nothing(project)
    assert models(project) == here
    assert (project.root / "metrics/train/none.csv").read_bytes() == curves

    cells = {f"fold{fold}-seed{seed}" for fold in (0, 1) for seed in (0, 1, 2)}
    assert {Path(name).parts[0] for name in here} == {*cells, "card.json"}
    adapters = {here[f"{cell}/adapter_model.safetensors"] for cell in cells}
    assert len(adapters) == 6  # control: another seed or fold gives other bytes
    assert not at_work_in(project.root)


def test_a_stopped_run_on_ray_says_so_and_leaves_no_process(project):
    project.repro("mix@none")
    project.set("compute.engine", "ray")
    project.set("tune.epochs", 200)
    with subprocess.Popen(
        [MEDSLM, "run", "train@none"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        waited_for(lambda: list(project.root.glob(".work/train/*/*.checkpoints/step-*")), 120)
        assert holding("raylet")  # control: there is something to leave behind
        [stage] = [p for p in at_work_in(project.root) if script(p) == "stages/train.py"]
        os.kill(stage, signal.SIGTERM)
        assert run.stderr is not None
        said = run.stderr.read()

    assert run.returncode == 143, said
    assert "stopped by SIGTERM; run again to go on" in said
    assert not at_work_in(project.root)


def script(pid: int) -> str:
    """Return the script that a process runs: its shell names it too, but not as an argument of its own."""
    return [*Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"), "", ""][1]
