"""The questions that both sides of the student's benchmarks get: real ones, or the sample's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from medslm.data.pubmedqa import read_questions
from medslm.data.records import Answer
from medslm.student.prompting import prompt

SAMPLE = Path("data/sample/pqal.json")


class Prompt(NamedTuple):
    """A labelled question about an abstract."""

    context: str
    question: str
    answer: Answer


def write_prompts(file: Path, count: int) -> int:
    """Write the first ``count`` questions, with the text that peers get; return how many there were.

    They are those of MEDSLM_PUBMEDQA if it names a copy of ori_pqal.json, else the sample's.
    """
    source = Path(os.environ.get("MEDSLM_PUBMEDQA") or SAMPLE)
    rows = [
        {
            "context": q.context,
            "question": q.question,
            "answer": q.answer,
            "prompt": prompt(q.context, q.question),
            "completion": f" {q.answer}",
        }
        for q in read_questions(source)[:count]
        if q.answer is not None
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def read_prompts(file: Path) -> list[Prompt]:
    """Return what ``write_prompts`` wrote."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return [Prompt(row["context"], row["question"], row["answer"]) for row in rows]
