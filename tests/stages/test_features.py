"""The stage as DVC runs it: a real repository with the project's own features, train and predict stages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medslm.data.split import Fold, write_folds
from medslm.files import read_json, write_jsonl
from tests.code_deps import ROOT
from tests.factories import example, question

BIN = Path(sys.executable).parent
STAGES = ("features", "train", "predict")


class Repository:
    """Mixes and splits as plain files, then the three stages of the project's dvc.yaml."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        root.mkdir()
        for part in ("src", "stages", "pyproject.toml"):
            (root / part).symlink_to(ROOT / part)
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        kept = {name: stages[name] for name in STAGES}
        for stage in kept.values():  # code is outside this repository: not what this is about
            part = stage.get("do", stage)
            part["deps"] = [d for d in part["deps"] if d.startswith(("data/", "models/"))]
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": kept}), encoding="utf-8")
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["student"].update(model=str(model), dtype="float32")
        params["tune"].update(layers="top-2", epochs=1, r=4, alpha=8)
        params["variants"] = {"none": []}
        self.params = params
        split = root / "data/split"
        split.mkdir(parents=True)
        write_jsonl(split / "dev.jsonl", [question("20"), question("21", answer="no")])
        write_jsonl(split / "test.jsonl", [question(str(n)) for n in range(30, 34)])
        write_folds(split / "folds.json", {"0": Fold(tuple(map(str, range(8))), ("20", "21"))})
        self.run("git", "init", "-q")
        self.run("dvc", "init", "-q")

    def variant(self, name: str, *more: str) -> None:
        """Add a variant: 8 real questions, and per study one for each of ``more``."""
        self.params["variants"][name] = []
        rows = [example(str(n)) for n in range(8)]
        rows += [example(r.pmid, question=f"{m} {r.pmid}?") for m in more for r in rows]
        mix = self.root / "data/mix"
        mix.mkdir(exist_ok=True)
        write_jsonl(mix / f"{name}.jsonl", rows)

    def repro(self) -> tuple[set[str], str]:
        """Run what changed; return the stages that ran and everything that was printed."""
        text = yaml.safe_dump(self.params)
        (self.root / "params.yaml").write_text(text, encoding="utf-8")
        said = self.run("dvc", "repro")
        return set(re.findall(r"^Running stage '(.+)':", said, re.MULTILINE)), said

    def run(self, *command: str) -> str:
        """Run a command in the repository and return what it prints on both streams."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC_ROOT")}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**environment, "PATH": f"{BIN}{os.pathsep}{environment['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_new_variant_adds_its_own_states_and_reruns_nothing_else(tmp_path, tiny_llama):
    project = Repository(tmp_path / "project", tiny_llama)
    project.variant("none")
    ran, said = project.repro()
    assert ran == {"features", "train@none", "predict@none"}
    assert "layers below 2: 14 prompts computed, 0 kept" in said
    features = project.root / "data/features"
    before = {p.name: p.read_bytes() for p in features.rglob("*") if p.is_file()}
    assert {"none.json", "heldout.json", "part-0000.bin"} <= set(before)
    assert project.repro()[0] == set()

    project.variant("combined", "Is the stay shorter for", "Do adults leave earlier with")
    ran, said = project.repro()

    assert ran == {"features", "train@combined", "predict@combined"}
    assert "16 prompts computed, 14 kept" in said
    after = {p.name: p.read_bytes() for p in features.rglob("*") if p.is_file()}
    assert {name: after[name] for name in before} == before
    assert len(read_json(features / "combined.json")["prompts"]) == 8 + 16 + 2

    # a damaged part is noticed by DVC, mended by the stage, and nothing else has to run
    part = next(features.rglob("part-0001.bin"))
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-4])
    ran, said = project.repro()
    assert ran == {"features"}
    assert "computed again" in said

    # control: another layer is another identity, and everything that reads it runs again
    project.params["tune"]["layers"] = "top-1"
    ran, said = project.repro()
    both = {f"{stage}@{v}" for stage in ("train", "predict") for v in ("none", "combined")}
    assert ran == {"features"} | both
    assert "layers below 3: 30 prompts computed, 0 kept" in said
    assert len([p for p in features.iterdir() if p.is_dir()]) == 1
