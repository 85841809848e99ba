"""A small project's files for the stages parse, vote, check and gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from medslm.data.records import Pair, Question
from medslm.files import write_jsonl, write_text
from tests.factories import pair, question
from tests.quality.builders import ballot

ANSWERS = ["yes", "no", "maybe"]
TRAIN = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 7)]
UNLABELLED = [question("70", answer=None)]
DEV = [question("50", question="Is the dose of aspirin lower after a stroke in elderly men?")]
TEST = [question("90", question="Do early ward rounds lower the rate of falls in older women?")]
PAIRS = [pair(q.pmid, answer=q.answer) for q in TRAIN]

PARAMS: dict[str, Any] = {
    "asks": {"local-rewrite": {"teacher": "local", "strategy": "rewrite"}},
    "quality": {
        "verifier": {
            "model": "tiny",
            "revision": None,
            "dtype": "float32",
            "max_tokens": 128,
            "batch_size": 4,
            "votes": 3,
            "abstain_below": 0.0,
            "measured_on": 4,
        },
        "rules": {
            "min_words": 3,
            "max_words": 40,
            "near_identical": 0.85,
            "near_duplicate": 0.8,
            "copied_words": 12,
            "min_overlap": 0.25,
            "min_grounding": 0.35,
            "require_long_answer": False,
            "min_support": None,
            "leak_overlap": 0.2,
            "max_edit_share": 0.3,
        },
        "inputs": {
            "min_questions": 3,
            "max_answer_share": 0.9,
            "min_question_chars": 10,
            "max_question_chars": 400,
            "min_context_chars": 20,
            "max_failed_share": 0.2,
            "max_cut_share": 0.05,
            "max_repeated_share": 0.2,
        },
        "mixes": {"max_answer_share": 0.9},
        "predictions": {"max_answer_share": 0.98, "max_unanswered_share": 0.05},
        "doubt": {"enabled": False, "folds": 3, "strength": 0.1},
        "leakage": {
            "hit_letters": 0.7,
            "near_letters": 0.45,
            "hit_runs": 0.5,
            "near_runs": 0.2,
            "embeddings": False,
            "hit_cosine": 0.95,
            "near_cosine": 0.75,
            "acknowledged": [],
        },
        "expectations": {
            "min_kept": {"rewrite": 2, "new": 1, "counterfactual": 1, "pseudo-label": 1},
            "max_answer_share": 0.95,
            "balance_severity": "critical",
            "min_question_chars": 10,
            "max_question_chars": 400,
            "min_context_chars": 20,
        },
    },
}


def write_params(root: Path, params: dict[str, Any] = PARAMS) -> None:
    write_text(root / "params.yaml", yaml.safe_dump(params))


def write_project(root: Path, pairs: list[Pair], train: list[Question] | None = None) -> None:
    write_params(root)
    write_jsonl(root / "train.jsonl", TRAIN if train is None else train)
    write_jsonl(root / "unlabelled.jsonl", UNLABELLED)
    write_jsonl(root / "dev.jsonl", DEV)
    write_jsonl(root / "test.jsonl", TEST)
    write_jsonl(root / "pairs" / "pairs.jsonl", pairs)
    write_jsonl(root / "pairs" / "unreadable.jsonl", [])
    write_jsonl(root / "votes.jsonl", [ballot(p) for p in pairs])
    write_jsonl(root / "review.jsonl", [])


def run(stage: Any, *flags: str | Path) -> Result:
    """Run a stage as DVC would, except that it shares this process."""
    result = CliRunner().invoke(stage, [str(flag) for flag in flags])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
