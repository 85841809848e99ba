"""Make-believe inputs of score, compare and report: a split, predictions, histories and counts."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from medslm.data.records import ANSWERS, Answer, Prediction, Question
from medslm.evaluation.score import gold_answers, score
from medslm.evaluation.sheet import Sheet, write_record
from medslm.files import write_json, write_jsonl, write_text
from tests.factories import prediction, question

NO_SHARES = dict.fromkeys(["nll", "nll_low", "nll_high", "brier", "brier_low", "brier_high", "ece"])
SHARES: tuple[Answer, ...] = ("yes",) * 11 + ("no",) * 7 + ("maybe",) * 2  # 55/35/10


def studies(first: int, count: int) -> list[Question]:
    """Return questions whose answers follow SHARES, with consecutive PMIDs."""
    return [question(pmid=str(first + i), answer=SHARES[i * 7 % len(SHARES)]) for i in range(count)]


def draw(*parts: object) -> float:
    """Return a number in 0..1 that depends on nothing but ``parts``."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def leaning(gold: Answer, strength: float, *identity: object) -> dict[Answer, float]:
    """Return probabilities with chance in them, the stronger the more on ``gold``."""
    weights = {a: draw(*identity, a) + (strength if a == gold else 0.0) for a in ANSWERS}
    total = sum(weights.values())
    return {a: weight / total for a, weight in weights.items()}


def answers_of(
    questions: Sequence[Question],
    *,
    split: str,
    fold: int = 0,
    seed: int = 0,
    strength: float = 0.5,
) -> list[Prediction]:
    """Return a student's predictions that are right the more often the greater ``strength``."""
    rows = []
    for q in questions:
        assert q.answer is not None
        probabilities = leaning(q.answer, strength, q.pmid, fold, seed)
        answer = max(ANSWERS, key=lambda a: probabilities[a])
        rows.append(
            prediction(
                pmid=q.pmid,
                split=split,
                fold=fold,
                seed=seed,
                probabilities=probabilities,
                answer=answer,
            )
        )
    return rows


def sheet(
    variant: str, *, dev: float = 0.5, test: float = 0.5, n_dev: int = 40, n_test: int = 80
) -> Sheet:
    """Return the sheet of a student as good on dev and on test as the strengths say."""
    dev_questions, test_questions = studies(1000, n_dev), studies(5000, n_test)
    return score(
        student(dev=dev, test=test, n_dev=n_dev, n_test=n_test),
        variant=variant,
        gold=gold_answers([*dev_questions, *test_questions]),
        test_pmids=[q.pmid for q in test_questions],
        dev_pmids={0: [q.pmid for q in dev_questions]},
    )


def student(
    *, dev: float = 0.5, test: float = 0.5, n_dev: int = 40, n_test: int = 80
) -> list[Prediction]:
    """Return the predictions that `sheet` scores."""
    return [
        *answers_of(studies(1000, n_dev), split="dev", strength=dev),
        *answers_of(studies(5000, n_test), split="test", strength=test),
    ]


def answered_only(original: Sheet) -> Sheet:
    """Return the sheet of a model that gave the same answers without probabilities."""
    return dataclasses.replace(
        original,
        bins=(),
        calibrated=None,
        dev=dataclasses.replace(original.dev, **NO_SHARES),
        test=dataclasses.replace(original.test, **NO_SHARES),
    )


def history(*, epochs: int = 4, seeds: Sequence[int] = (0,), best: int = 2) -> str:
    """Return a training history whose dev loss is lowest at epoch ``best``."""
    lines = ["fold,seed,epoch,step,train_loss,dev_loss,dev_accuracy,dev_macro_f1,learning_rate"]
    for seed in seeds:
        for epoch in range(1, epochs + 1):
            dev = 0.93 + 0.04 * (epoch - best) ** 2 + 0.01 * seed
            lines.append(
                f"0,{seed},{epoch},{epoch * 8},{1.15 / epoch**0.4:.4f},{dev:.4f},0.5,0.3,0.001"
            )
    return "\n".join(lines) + "\n"


PARAMS: dict[str, Any] = {
    "asks": {
        "local-rewrite": {"teacher": "local", "strategy": "rewrite", "per_question": 1, "seed": 0},
        "local-new": {"teacher": "local", "strategy": "new", "per_question": 2, "seed": 0},
    },
    "answers": {},
    "variants": {
        "none": [],
        "rewrite": ["local-rewrite"],
        "combined": ["local-rewrite", "local-new"],
    },
    "compare": {"metric": "dev.macro_f1", "baselines": ["majority", "zero-shot"]},
}

STRENGTHS = {"majority": 0.05, "zero-shot": 0.1, "none": 0.25, "rewrite": 0.3, "combined": 0.4}


def write_params(root: Path, **overrides: Any) -> Path:
    """Write params.yaml with ``overrides`` of whole sections."""
    path = root / "params.yaml"
    write_text(path, yaml.safe_dump({**PARAMS, **overrides}, sort_keys=False))
    return path


def write_split(root: Path, *, folds: Mapping[str, Any] | None = None) -> None:
    """Write a split of 60 train, 20 dev and 80 test questions, fold 0."""
    train, dev, test = studies(2000, 60), studies(3000, 20), studies(5000, 80)
    write_jsonl(root / "split/train.jsonl", train)
    write_jsonl(root / "split/dev.jsonl", dev)
    write_jsonl(root / "split/test.jsonl", test)
    fold = {"train": [q.pmid for q in train], "dev": [q.pmid for q in dev]}
    write_json(root / "split/folds.json", folds or {"0": fold})


def write_predictions(root: Path, name: str = "none", *, strength: float = 0.5) -> Path:
    """Write one student's predictions for the split of `write_split`."""
    path = root / f"predictions/{name}.jsonl"
    dev = answers_of(studies(3000, 20), split="dev", strength=strength)
    test = answers_of(studies(5000, 80), split="test", strength=strength)
    write_jsonl(path, [*dev, *test])
    return path


def write_scores(root: Path, strengths: Mapping[str, float] = STRENGTHS) -> None:
    """Write a score sheet and the predictions it is of per name, and the test questions."""
    write_jsonl(root / "split/test.jsonl", studies(5000, 80))
    for name, strength in strengths.items():
        write_scored(root, name, dev=strength, test=strength)


def write_scored(root: Path, name: str, *, dev: float, test: float) -> None:
    """Write one student's score sheet and predictions."""
    write_record(root / f"score/{name}.json", sheet(name, dev=dev, test=test))
    write_jsonl(root / f"predictions/{name}.jsonl", student(dev=dev, test=test))


def write_histories(root: Path) -> None:
    """Write a training history per variant."""
    for place, name in enumerate(PARAMS["variants"]):
        write_text(root / f"train/{name}.csv", history(best=2 + place % 2))


def write_quality(root: Path, **overrides: Any) -> None:
    """Write quality counts per ask; ``overrides`` replace keys of each."""
    for ask in PARAMS["asks"]:
        counts = {
            "parsed": 66,
            "unreadable": {"no_question": 4, "empty": 2},
            "kept": 41,
            "dropped": 25,
            "acceptance": 0.569,
            "reasons": {"copies_its_source": 17, "not_a_question": 11},
        }
        write_json(root / f"quality/{ask}.json", {**counts, **overrides})


def write_behind(root: Path) -> None:
    """Write what votes and spending are read from, and a dvc.lock."""
    for ask in PARAMS["asks"]:
        agreement = {"n": 66, "abstained": 4, "agreement": 0.61, "kappa": 0.2}
        votes = {"verifier": "toy", "on_gold": {**agreement, "majority_share": 0.5}}
        write_json(root / f"votes/{ask}.json", {**votes, "on_claims": agreement})
        write_json(root / f"spend/{ask}.json", {"usd": 0.5, "requests": 72, "prompt_tokens": 9000})
    outs = [
        {"path": "data/raw", "md5": f"{'a' * 32}.dir"},
        {"path": "models/none", "md5": "b" * 32},
    ]
    lock = {"schema": "2.0", "stages": {"all": {"cmd": "true", "outs": outs}}}
    write_text(root / "dvc.lock", yaml.safe_dump(lock))
