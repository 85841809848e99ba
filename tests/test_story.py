"""Three days with the project, by public commands alone: more data, a worse idea, a way back."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from medslm.cli import main
from tests.code_deps import ROOT
from tests.project import Project
from tests.tracking.project import MLFLOW_WARNING

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings(MLFLOW_WARNING),
]


def medslm(*words: str, fails: int = 0) -> str:
    """Run a verb in this process, which has the heavy libraries loaded already; return what it says."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == fails, done.output
    return done.output


def champion() -> str:
    """Return the line of `medslm models` with the champion."""
    [line] = [line for line in medslm("models").splitlines() if "champion" in line]
    return line


def dev_nll(project: Project) -> float:
    """Return what the choice is made by, of the chosen variant."""
    chosen = json.loads((project.root / "metrics/compare.json").read_text())["chosen"]
    return float(
        json.loads((project.root / f"metrics/score/{chosen}.json").read_text())["dev"]["nll"]
    )


def daily_work() -> list[str]:
    """Return the commands of the README's section, without their comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("## Daily work")[1].split("```sh\n")[1].split("```")[0]
    return block.strip().splitlines()


def run(project: Project, line: str) -> str:
    program, *words = shlex.split(line, comments=True)
    verbs = {"medslm": medslm, "dvc": project.dvc, "git": project.git}
    return verbs[program](*words)


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "project", tiny_llama)
    project.set("answers", {})
    project.set("compare", {"metric": "dev.nll", "baselines": ["majority"]})
    project.set("variants", {"augmented": []})
    project.set("tune.lr", 1e-9)
    shutil.copy(ROOT / "data/sample/abstract.txt", project.root / "data/sample")
    monkeypatch.chdir(project.root)
    return project


def test_more_data_is_promoted_a_worse_idea_is_not_and_a_rollback_returns(project):
    project.repro()
    project.commit("real questions, a rate that learns nothing")
    untaught = dev_nll(project)
    medslm("promote", "--force", "there is no other yet")
    assert champion().split()[0] == "1"

    # Monday: augmentation, a new variant, and a rate that learns, by the README
    project.set("variants", {"augmented": ["reworded"], "none": []})
    project.set("tune.lr", 0.5)
    lines = daily_work()
    said = {" ".join(line.split()[:2]): run(project, line) for line in lines}
    better = dev_nll(project)
    assert len(said) == len(lines) >= 10
    assert better < untaught
    assert "train@augmented" in said["dvc repro"]
    assert "'ask@reworded' didn't change" in said["dvc repro"]
    assert "tune.lr" in said["dvc params"]
    assert "dev.nll" in said["dvc metrics"]
    assert project.git("status", "--porcelain") == ""  # new files are in it too
    assert "variants.augmented" in said["medslm compare"]
    assert "95 %" in said["medslm compare"]
    assert "version 2 is champion" in said["medslm promote"]
    assert "maybe" in said["medslm answer"]
    assert "sha256" in said["medslm lineage"]
    assert champion().split()[0] == "1"  # the last line was a step back
    assert "version 2 is champion" in medslm("promote")

    # Tuesday: a rate too low to learn anything in two epochs
    project.set("tune.lr", 0.002)
    project.repro()
    uncommitted = medslm("promote", fails=51)
    project.commit("a much lower rate")
    assert dev_nll(project) > better
    no_gain = medslm("promote", fails=51)
    assert "commit" in uncommitted
    assert "no gain" in no_gain
    assert champion().split()[0] == "2"

    # Wednesday: back, to the model and to the commit
    medslm("rollback")
    assert champion().split()[0] == "1"
    project.git("checkout", "--quiet", "HEAD~1")
    project.dvc("checkout")
    assert project.repro() == []
