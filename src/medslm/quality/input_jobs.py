"""What is validated before anything is trained: raw questions, parts, replies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medslm.data.fetch import raw_file
from medslm.data.pubmedqa import read_questions
from medslm.data.records import Exchange
from medslm.data.split import read_folds
from medslm.files import read_jsonl
from medslm.quality.parts import parts_of
from medslm.quality.reports import Job
from medslm.quality.settings import InputParams
from medslm.quality.suites import raw, replies, splits


def input_jobs(
    *,
    raw_folder: Path,
    split: Path,
    replies_folder: Path,
    asks: Mapping[str, str],
    knobs: InputParams,
) -> list[Job]:
    """Return the suites on raw questions, parts and replies; ``asks`` maps names to strategies."""
    parts = parts_of(split)
    sources = {question.pmid for part in ("train", "unlabelled") for question in parts[part]}
    test = {question.pmid for question in parts["test"]}
    floor = knobs.min_questions
    return [
        Job(
            "raw",
            "questions",
            raw.table(read_questions(raw_file(raw_folder))),
            raw.suite(**knobs.raw()),
        ),
        Job(
            "splits",
            "questions",
            splits.table(parts, read_folds(split / "folds.json")),
            splits.suite(min_questions=floor),
        ),
        *(
            Job(
                "replies",
                ask,
                replies.table(
                    ask,
                    read_jsonl(replies_folder / f"{ask}.jsonl", Exchange),
                    sources=sources,
                    test=test,
                ),
                replies.suite(strategy=strategy, **knobs.replies()),
            )
            for ask, strategy in asks.items()
        ),
    ]
