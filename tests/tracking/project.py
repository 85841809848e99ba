"""A whole project on disk as the stages leave it, small enough to make in every test."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from medslm.data.records import ANSWERS, Passage, Prediction, Question
from medslm.data.split import Fold
from medslm.files import read_json, write_json, write_jsonl, write_text
from medslm.models import load_causal_lm
from medslm.params import load_section, load_value
from medslm.student.lora import adapter_tensors, add_lora, save_adapter
from medslm.student.predicting import predict_cells
from medslm.student.settings import StudentParams
from medslm.tracking.challenger import candidate_of, version_tags
from medslm.tracking.ledger import Files, Tracked, records, track
from medslm.tracking.lockfile import entries_of, md5_of, read_lock
from medslm.tracking.record import SECTIONS, Record
from medslm.tracking.registry import Version, fetch, register
from medslm.tracking.store import Store, opened

EXPERIMENT, MODEL = "medslm", "medslm-pubmedqa"
BASELINES = ("majority",)
# MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates; nothing here can change that
MLFLOW_WARNING = "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"
CURVE_HEADER = "fold,seed,epoch,step,train_loss,dev_loss,dev_accuracy,dev_macro_f1,learning_rate"

PARAMS: dict[str, Any] = {
    "data": {"source": "sample", "url": None},
    "split": {"protocol": "official", "folds": [0]},
    "teachers": {"local": {"backend": "local", "temperature": 0.7}},
    "asks": {"local-new": {"teacher": "local", "strategy": "new", "per_question": 2}},
    "answers": {},
    "quality": {"min_kept": 5},
    "variants": {"none": [], "new": ["local-new"]},
    "student": {
        "model": "base-model",
        "revision": None,
        "dtype": "float32",
        "max_tokens": 64,
        "batch_size": 4,
    },
    "tune": {"method": "lora", "lr": 0.001},
    "compare": {"metric": "dev.macro_f1", "baselines": list(BASELINES)},
    "track": {"experiment": EXPERIMENT, "registered_model": MODEL, "live": True},
}


class Project:
    """The files of a finished pipeline under ``root``; ``relock`` makes dvc.lock agree with them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def params(self) -> dict[str, Any]:
        return yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))

    def fill(self) -> Project:
        """Write every file a track needs."""
        self.write_params()
        for part in ("train", "dev", "test"):
            write_jsonl(self.root / f"data/split/{part}.jsonl", questions(part))
        for name, dev_f1 in (("none", 0.5), ("new", 0.6)):
            self.write_variant(name, dev_f1)
        for name in BASELINES:
            self.write_score(name, 0.3)
            write_jsonl(self.root / f"data/predictions/{name}.jsonl", predictions(0.3))
        write_json(
            self.root / "metrics/compare.json", {"chosen": "new", "warnings": ["few <b>dev</b>"]}
        )
        write_json(self.root / "metrics/gate.json", {"passed": True})
        return self.relock()

    def write_params(self, **changes: Any) -> None:
        body = {**PARAMS, **changes}
        write_text(self.root / "params.yaml", yaml.safe_dump(body, sort_keys=False))

    def write_answers(self, name: str, **entry: Any) -> None:
        """Add a teacher's own answers, scored."""
        self.write_params(answers={name: entry})
        self.write_score(name, 0.4)
        write_text(self.root / f"data/answers/{name}.jsonl", f"{name}\n")
        write_text(self.root / f"data/predictions/{name}.jsonl", "{}\n")

    def write_variant(self, name: str, dev_f1: float) -> None:
        write_text(self.root / f"data/mix/{name}.jsonl", f"{name}\n")
        write_jsonl(self.root / f"data/predictions/{name}.jsonl", predictions(dev_f1))
        cell = self.root / f"models/{name}/fold0-seed0"
        write_json(cell / "adapter_config.json", {"peft_type": "LORA", "r": 2})
        write_text(cell / "adapter_model.safetensors", f"adapter of {name}")
        card = {"base_sha256": "b" * 64, "inputs": f"{name}-0123456789abcdef"}
        write_json(self.root / f"models/{name}/card.json", card)
        rows = ["0,0,1,10,1.1,1.0,0.5,0.4,0.001", "0,0,2,20,0.9,0.95,0.6,,0.0005"]
        write_text(self.root / f"metrics/train/{name}.csv", "\n".join([CURVE_HEADER, *rows]) + "\n")
        self.write_score(name, dev_f1)

    def write_score(self, name: str, dev_f1: float, **more: Any) -> None:
        body = {
            "variant": name,
            "dev": {"n": 8, "accuracy": 0.7, "macro_f1": dev_f1, "nll": 1.0 - dev_f1},
            "test": {"n": 8, "accuracy": 0.65, "macro_f1": 0.4, "nll": None, "unanswered": 0},
            "cells": [{"fold": 0, "seed": 0}],
        }
        write_json(self.root / f"metrics/score/{name}.json", {**body, **more})

    def tune(self, base: Path, *, cells: int = 1) -> Project:
        """Give every variant real adapters on a real base, and the predictions they really make.

        Adapters are random and differ; what is scored stays what ``write_variant`` said.
        """
        self.write_params(student={**self.params["student"], "model": str(base), "max_tokens": 128})
        for place, name in enumerate(self.params["variants"]):
            make_adapters(base, self.root / f"models/{name}", first_seed=10 * place, cells=cells)
            rows = predict_cells(
                load_causal_lm(str(base), revision=None, dtype="float32"),
                self.root / f"models/{name}",
                {"0": Fold((), tuple(q.pmid for q in questions("dev")))},
                range(cells),
                questions("dev"),
                questions("test"),
                max_tokens=128,
                batch_size=4,
            )
            write_jsonl(self.root / f"data/predictions/{name}.jsonl", rows)
        return self.relock()

    def stages(self) -> dict[str, dict[str, Any]]:
        """Return the graph as in dvc.yaml, with every output kept out of DVC's cache."""
        split = [f"data/split/{p}.jsonl" for p in ("train", "dev", "test")]
        raw = [
            p for p in ["data/raw"] if (self.root / p).exists()
        ]  # only lineage looks behind split
        folds = [p for p in ["data/split/folds.json"] if (self.root / p).exists()]
        found = {"fetch": ([], raw)} if raw else {}
        found["split"] = (raw, [*split, *folds])
        for v in self.params["variants"]:
            found[f"mix@{v}"] = (split[:1], [f"data/mix/{v}.jsonl"])
            trained = [f"models/{v}", f"metrics/train/{v}.csv"]
            found[f"train@{v}"] = ([f"data/mix/{v}.jsonl", split[1]], trained)
            found[f"predict@{v}"] = ([f"models/{v}", *split[1:]], [f"data/predictions/{v}.jsonl"])
        found["baselines"] = (split[1:], [f"data/predictions/{b}.jsonl" for b in BASELINES])
        for name in self.params["answers"]:
            reply, held_out = f"data/answers/{name}.jsonl", split[1:]
            found[f"answer@{name}"] = (split, [reply])
            made = [f"data/predictions/{name}.jsonl", f"metrics/score/{name}.json"]
            found[f"score_answers@{name}"] = ([reply, *held_out], made)
        names = [*self.params["variants"], *BASELINES]
        scoring = {f"score@{name}": [name] for name in self.params["variants"]}
        for stage, scored in {**scoring, "score_baselines": BASELINES}.items():
            found[stage] = (
                [*(f"data/predictions/{name}.jsonl" for name in scored), *split[1:]],
                [f"metrics/score/{name}.json" for name in scored],
            )
        names += self.params["answers"]
        scores = [f"metrics/score/{name}.json" for name in names]
        found["compare"] = (scores, ["metrics/compare.json"])
        found["gate"] = ([], ["metrics/gate.json"])
        return {
            name: {"cmd": f"make {name}", "deps": deps, "outs": outs}
            for name, (deps, outs) in found.items()
        }

    def relock(self) -> Project:
        """Write the dvc.lock that `dvc repro` would leave."""
        stages = {
            name: {
                "cmd": stage["cmd"],
                "deps": [
                    {"path": p, "hash": "md5", "md5": md5_of(self.root / p)} for p in stage["deps"]
                ],
                "params": {"params.yaml": {"tune": self.params["tune"]}},
                "outs": [
                    {"path": p, "hash": "md5", "md5": md5_of(self.root / p)} for p in stage["outs"]
                ],
            }
            for name, stage in self.stages().items()
        }
        body = {"schema": "2.0", "stages": stages}
        write_text(self.root / "dvc.lock", yaml.safe_dump(body, sort_keys=False))
        return self

    def files(self) -> Files:
        return Files(
            root=self.root,
            lock=Path("dvc.lock"),
            params=Path("params.yaml"),
            scores=Path("metrics/score"),
            curves=Path("metrics/train"),
        )

    def records(self) -> list[Record]:
        path = self.root / "params.yaml"
        params = {name: load_value(path, name) for name in SECTIONS}
        return records(self.files(), params, [*BASELINES, *params["answers"]])

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """Open the project's own store, on a copy of a database that is migrated already."""
        if not (self.root / "mlflow.db").exists():
            self.lay_empty_database()
        with opened(self.root, EXPERIMENT) as store:
            yield store

    def lay_empty_database(self) -> None:
        self.root.mkdir(exist_ok=True)
        shutil.copyfile(migrated_database(), self.root / "mlflow.db")

    def track(self, store: Store) -> dict[str, Tracked]:
        return track(store, self.records())

    def register(self, store: Store, tracked: dict[str, Tracked]) -> Version:
        """Register the chosen variant as the stage does."""
        verdict = read_json(self.root / "metrics/compare.json")
        chosen = verdict["chosen"]
        [record] = [r for r in self.records() if r.name == chosen]
        settings = load_section(self.root / "params.yaml", "student", StudentParams)
        predictions = self.root / f"data/predictions/{chosen}.jsonl"
        return register(
            store,
            MODEL,
            candidate_of(settings, self.root / "models" / chosen, predictions, record, verdict),
            run_id=tracked[chosen].run_id,
            tags=version_tags(
                read_lock(self.root / "dvc.lock", entries_of(self.root / "params.yaml")),
                chosen,
                tracked[chosen].fingerprint,
            ),
        )


def questions(part: str) -> list[Question]:
    """Return eight fictional questions of a part of the split, of different lengths."""
    start = {"train": 1, "dev": 101, "test": 201}[part]
    return [
        Question(
            pmid=str(number),
            question=f"Does treatment {number} shorten the stay?",
            sections=(
                Passage("RESULTS", f"Stay was {number % 7} days.\nIt was not {number % 5}."),
            ),
            long_answer="It does.",
            answer=ANSWERS[number % 3],
        )
        for number in range(start, start + 8)
    ]


def predictions(confidence: float) -> list[Prediction]:
    """Return one cell's answers to all held-out questions, all yes."""
    rest = round((1 - confidence) / 2, 6)
    return [
        Prediction(part, 0, 0, q.pmid, {"yes": confidence, "no": rest, "maybe": rest}, "yes")
        for part in ("dev", "test")
        for q in questions(part)
    ]


def make_adapters(base: Path, out: Path, *, first_seed: int, cells: int) -> None:
    """Write a trained variant as the train stage leaves it: random adapters, one per cell, and a card."""
    import torch

    for cell in range(cells):
        loaded = load_causal_lm(str(base), revision=None, dtype="float32")
        with torch.random.fork_rng():
            torch.manual_seed(first_seed + cell)
            model = add_lora(
                loaded, r=2, alpha=4, dropout=0.0, targets="all-linear", layers="top-2"
            )
            tensors = {k: torch.randn_like(v) * 0.3 for k, v in adapter_tensors(model).items()}
        save_adapter(out / f"fold0-seed{cell}", model, tensors, loaded.base_id)
    card = {"base_sha256": loaded.base_sha256, "inputs": f"{out.name}-{first_seed:016x}"}
    write_json(out / "card.json", card)


@functools.cache
def migrated_database() -> Path:
    """Make an empty MLflow database once per test process: its migrations take seconds."""
    from mlflow import MlflowClient

    path = Path(tempfile.mkdtemp(prefix="medslm-test-")) / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def require_whole(store: Store, version: Version) -> None:
    """Raise IntegrityError unless a version's package can be fetched and every byte is as registered."""
    with tempfile.TemporaryDirectory() as folder:
        fetch(store, version, Path(folder))


def private_environment(root: Path) -> dict[str, str]:
    """Return the environment for a process that works on the project at ``root`` and nothing else."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "GIT_"))}
    return {
        **kept,
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(root / ".site-cache"),
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.org",
    }


def grep(root: Path, needle: str) -> list[str]:
    """Return the files under ``root`` whose bytes hold ``needle``."""
    return sorted(
        str(p.relative_to(root))
        for p in root.rglob("*")
        if p.is_file() and needle.encode() in p.read_bytes()
    )


def dumped(value: object) -> str:
    return json.dumps(value, sort_keys=True)
