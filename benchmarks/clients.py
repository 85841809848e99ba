"""The clients that are compared: our `ask` stage as users run it, and two peers in their own venvs."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from benchmarks.watch import ROOT, environment
from benchmarks.workload import write_prompts, write_train

_SYSTEM = "Write the question of this study in other words, as one JSON object."
_OTHER_SYSTEM = "Write the question of this study in British English, as one JSON object."
_ADDED = "Write British English. "
_PROMPT = Path("src/medslm/teacher/prompts/rewrite/chat-v1.txt")


@dataclass(frozen=True)
class Job:
    """What a client is asked to do, whoever it is.

    ``limited``: the server has a limit; ``rpm`` is then what the client is told of it, None nothing.
    """

    count: int
    in_flight: int
    poisoned: int | None = None
    limited: bool = False
    rpm: int | None = None
    other_system: bool = False


class Command(NamedTuple):
    """How to start a client, and the file its rows are in when it succeeded."""

    words: list[str]
    cwd: Path
    env: dict[str, str]
    out: Path


class Client(Protocol):
    """One side of the comparison. ``has_rate``: it can be told how many requests a minute may take."""

    name: str
    has_rate: bool

    def prepare(self, home: Path, job: Job, url: str) -> Command:
        """Lay out ``home`` for the job, keeping what an earlier run left there to resume from."""
        ...

    def answered(self, out: Path) -> int:
        """Return how many rows have an answer."""
        ...


class Ours:
    """`python stages/ask.py` in a scratch project, on a copy of this project's code."""

    name = "medslm"
    has_rate = True

    def prepare(self, home: Path, job: Job, url: str) -> Command:
        if not home.exists():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            for part in ("src", "stages"):
                shutil.copytree(ROOT / part, home / part, ignore=ignored)
            (home / "data/replies").mkdir(parents=True)
            (home / "metrics/spend").mkdir(parents=True)
        write_train(home / "data/split/train.jsonl", job.count, job.poisoned)
        text = (home / _PROMPT).read_text(encoding="utf-8").replace(_ADDED, "")
        if job.other_system:
            text = text.replace("[system]\n", "[system]\n" + _ADDED, 1)
        (home / _PROMPT).write_text(text, encoding="utf-8")
        (home / "params.yaml").write_text(yaml.safe_dump(_params(home, job, url)), encoding="utf-8")
        # The very command that `dvc repro` runs.
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        python, *words = shlex.split(stages["ask"]["do"]["cmd"].replace("${key}", "bench"))
        assert python == "python"
        env = environment(PYTHONPATH=str(home / "src"), DVC_ROOT=str(home))
        return Command([sys.executable, *words], home, env, home / "data/replies/bench.jsonl")

    def answered(self, out: Path) -> int:
        return sum(row["content"] is not None for row in _rows(out))


class Peer:
    """Another system, started by the interpreter of its own virtual environment."""

    def __init__(self, name: str, script: str, python: Path, *, has_rate: bool) -> None:
        self.name = name
        self.has_rate = has_rate
        self._script = ROOT / "benchmarks" / script
        self._python = python

    def prepare(self, home: Path, job: Job, url: str) -> Command:
        write_prompts(home / "prompts.jsonl", job.count, job.poisoned)
        out = home / "rows.jsonl"
        words = {
            "--prompts": home / "prompts.jsonl",
            "--url": url,
            "--system": _OTHER_SYSTEM if job.other_system else _SYSTEM,
            "--work": home / "work",
            "--out": out,
            "--in-flight": job.in_flight,
        }
        if self.has_rate and (job.rpm is not None or not job.limited):
            # Without a rate curator takes 200 a minute, which only a limited server deserves.
            words["--rpm"] = job.rpm if job.rpm is not None else 10_000_000
        flags = [str(word) for pair in words.items() for word in pair]
        command = [str(self._python), str(self._script), *flags]
        return Command(command, home, environment(HOME=str(home)), out)

    def answered(self, out: Path) -> int:
        return sum(bool(row["reply"]) for row in _rows(out))


def curator(cache: Path) -> Peer:
    """Curator, told to hand over what it has when some rows failed: by default that is nothing."""
    return Peer("curator", "peer_curator.py", cache / "curator/bin/python", has_rate=True)


def designer(cache: Path) -> Peer:
    """DataDesigner with its defaults, resuming; it cannot be told a rate, it adapts."""
    return Peer("DataDesigner", "peer_designer.py", cache / "designer/bin/python", has_rate=False)


def _params(home: Path, job: Job, url: str) -> Mapping[str, Any]:
    """Return params.yaml: the teacher and one ask of the shipped profile, pointed at the server."""
    text = (home / "src/medslm/profiles/pubmedqa.yaml").read_text(encoding="utf-8")
    profile = yaml.safe_load(text)
    teacher = profile["teachers"]["openai"] | {
        "base_url": url,
        "key_env": None,
        "model": "bench-model",
        "mode": "sync",
        "price": "free",
        "max_usd": None,
        "concurrency": job.in_flight,
        "rpm": job.rpm,
        "tpm": None,
    }
    ask = profile["asks"]["openai-rewrite"] | {"teacher": "bench"}
    return {"teachers": {"bench": teacher}, "asks": {"bench": ask}}


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
