"""A copy of this whole project in a folder of its own, small enough to run for real in a test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from medslm.files import sha256_of
from tests.code_deps import ROOT

PARTS = ["dvc.yaml", "params.yaml", "pyproject.toml", ".dvcignore", ".gitignore", "stages", "src"]
METRICS = ["quality", "votes", "spend"]  # read as whole folders, which may be empty
BIN = Path(sys.executable).parent
MEDSLM = str(BIN / "medslm")


def stages_in(printed: str) -> list[str]:
    """Return the stages that `dvc repro` says it ran, without ``runs``, which runs every time."""
    return [s for s in re.findall(r"^Running stage '(.+)':", printed, re.MULTILINE) if s != "runs"]


class Project:
    """A git and DVC repository with this project's code, 40 questions and a tiny random student."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            source, target = ROOT / part, root / part
            if source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
                )
            else:
                shutil.copyfile(source, target)
        for folder in ("data/sample", "data/checked", *(f"metrics/{m}" for m in METRICS), ".dvc"):
            (root / folder).mkdir(parents=True)
        for kept in ("data/checked", *(f"metrics/{m}" for m in METRICS)):
            (root / kept / ".gitkeep").touch()
        (root / "data/review.jsonl").touch()
        shutil.copyfile(ROOT / ".dvc/config", root / ".dvc/config")
        shutil.copyfile(ROOT / ".dvc/.gitignore", root / ".dvc/.gitignore")
        shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
        self._write_data()
        self._write_params(model)
        self.git("init", "-q", "-b", "main")
        self.commit("start")

    def git(self, *words: str) -> str:
        """Run git as a named author and return what it prints."""
        author = ["-c", "user.name=A Researcher", "-c", "user.email=a@example.org"]
        return self._run(["git", *author, *words]).stdout

    def commit(self, message: str) -> None:
        """Commit everything that is not ignored."""
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)

    def dvc(self, *words: str) -> str:
        """Run dvc and return what it prints; AssertionError if it fails."""
        return self._run([str(BIN / "dvc"), *words]).stdout

    def repro(self, *targets: str) -> list[str]:
        """Run `medslm run` and return the stages that ran or came from the run cache.

        Without ``runs``, which DVC runs every time.
        """
        return stages_in(self._run([MEDSLM, "run", *targets]).stdout)

    def medslm(self, *words: str) -> str:
        """Run medslm and return what it prints; AssertionError if it fails."""
        return self._run([MEDSLM, *words]).stdout

    def params(self) -> dict:  # type: ignore[type-arg]  # whatever params.yaml holds
        """Return params.yaml as a dict."""
        return yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))

    def set(self, path: str, value: object) -> None:
        """Set one value of params.yaml, named by its path with dots."""
        params = self.params()
        *folders, key = path.split(".")
        inner = params
        for folder in folders:
            inner = inner[folder]
        inner[key] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def environment(self) -> dict[str, str]:
        """Return the environment that every command of the project runs in."""
        drop = ("DVC_ROOT", "DVC_SITE_CACHE_DIR")
        kept = {k: v for k, v in os.environ.items() if k not in drop}
        return {
            **kept,
            "PATH": os.pathsep.join([str(BIN), kept["PATH"]]),
            "PYTHONPATH": str(self.root / "src"),
            "OMP_NUM_THREADS": "1",
        }

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _write_data(self) -> None:
        body = json.loads((ROOT / "data/sample/pqal.json").read_text(encoding="utf-8"))
        few = dict(list(body.items())[:40])
        (self.root / "data/sample/pqal.json").write_text(json.dumps(few), encoding="utf-8")
        shutil.copyfile(ROOT / "data/sample/pqau.json", self.root / "data/sample/pqau.json")
        with (self.root / "replies.jsonl").open("w", encoding="utf-8") as stream:
            for pmid, study in few.items():
                verb, *rest = study["QUESTION"].rstrip("?").split()
                reply = {
                    "question": f"In this study, {verb.lower()} the data show that {' '.join(rest)}?",
                    "long_answer": study["LONG_ANSWER"],
                }
                row = {"pmid": pmid, "strategy": "rewrite", "index": 0, "reply": reply}
                stream.write(json.dumps(row) + "\n")
                answer = {"answer": study["final_decision"]}
                row = {"pmid": pmid, "strategy": "answer", "index": 0, "reply": answer}
                stream.write(json.dumps(row) + "\n")

    def _write_params(self, model: Path) -> None:
        params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        params["teachers"] = {
            "recorded": {
                "backend": "recorded",
                "path": "replies.jsonl",
                "sha256": sha256_of(self.root / "replies.jsonl"),
                "max_failed_share": 0.5,
            }
        }
        ask = {"teacher": "recorded", "strategy": "rewrite", "prompt": "v1", "seed": 0}
        shares = {"yes": 0.5, "no": 0.3, "maybe": 0.2}  # DVC writes the names without quotes
        more = {"questions": "train", "per_question": 1, "answers": shares}
        params["asks"] = {"reworded": {**ask, **more}}
        entry = {"teacher": "recorded", "shots": 0, "prompt": "v1", "seed": 0}
        params["answers"] = {"oracle": entry}
        params["variants"] = {"none": [], "combined": ["reworded"]}
        small = {"model": str(model), "dtype": "float32"}
        params["student"].update(small)
        params["quality"]["verifier"].update(small, measured_on=4)
        params["quality"]["rules"]["near_identical"] = 1.0
        params["quality"]["expectations"]["min_kept"] = {"rewrite": 1, "new": 1}
        params["tune"].update(layers="top-2", epochs=2, r=4, alpha=8, lr=0.01)
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
