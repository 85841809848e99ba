"""The card of an exported dataset: what is in it, who wrote it, what was checked, whose it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS
from medslm.quality.export import ARROW, COLUMNS, PARQUET, Row

# The values are our own words: no text of the data reaches the YAML that the Hub reads.
_FRONT = """---
license: other
language: en
pretty_name: PubMedQA pairs written by a language model
task_categories: [question-answering]
tags: [medical, pubmedqa, synthetic]
configs:
- config_name: default
  data_files: [{{split: train, path: {parquet}}}]
dataset_info:
  features:
{features}
---
"""

_LICENCE = {
    "sample": "The studies are fictional and come with medslm (MIT).",
    "pubmedqa": "The source questions are PubMedQA's (MIT licence, https://github.com/pubmedqa/pubmedqa); "
    "the abstracts are PubMed's and remain their authors' and publishers'.",
    "file": "The source questions come from a file of the user's: its own licence holds for them.",
}

_COLUMN_NOTES = {
    "id": "ask, PMID and number",
    "pmid": "the study the pair is about; text, never a number",
    "reply_key": "hash of the request that the teacher answered",
    "source_question": "the real question",
    "source_answer": "the experts' answer; null where there is none",
    "question": "generated, or the real one for strategies that keep it",
    "context": "the abstract the question is about, edited for counterfactuals",
    "answer": "yes, no or maybe",
    "long_answer": "the reason given; may be empty",
}


class Ask(NamedTuple):
    """What the card says of one ask: who wrote its pairs, by which prompt, and what check counted."""

    teacher: Mapping[str, Any]
    prompts: Mapping[str, str | None]
    counts: Mapping[str, Any]


class Provenance(NamedTuple):
    """Where the rows come from; ``gate`` is None where the pipeline did not get that far."""

    source: str
    chosen: str
    asks: Mapping[str, Ask]
    gate: bool | None
    decisions: int
    hashes: Mapping[str, str]


def card(rows: Sequence[Row], made: Provenance) -> str:
    """Return the card as Markdown in which every name from params is text and nothing else."""
    features = "\n".join(f"  - {{name: {name}, dtype: string}}" for name in COLUMNS)
    parts = [
        _FRONT.format(parquet=PARQUET, features=features),
        "# Question-answer pairs about PubMed abstracts, written by a language model\n",
        f"{len(rows)} pairs that passed every check of medslm: {plain(made.chosen)}. "
        "A research artefact, not medical advice.\n",
        "## What is in it\n",
        _answers(rows),
        _table(["column", "meaning"], [[name, _COLUMN_NOTES.get(name, "")] for name in COLUMNS]),
        "Every column is text. Load it with `datasets.load_dataset(FOLDER)`, "
        f"`datasets.load_from_disk(FOLDER/{ARROW})`, or read `{PARQUET}`.\n",
        "## Who wrote it\n",
        _teachers(made),
        "## What was checked\n",
        _checks(made),
        "## Licence\n",
        f"{_LICENCE[made.source]} The generated text may be bound by the terms of the model that wrote "
        "it; some providers forbid to train competing models on it. Read them before you publish or "
        "train on this.\n",
        "## Hashes (SHA-256)\n",
        _table(["file", "hash"], [[PARQUET, "{parquet_sha256}"], *sorted(made.hashes.items())]),
    ]
    return "\n".join(parts)


def plain(text: str) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return re.sub(r"([\\`*_\[\]<>|#!&~${}])", r"\\\1", line)


def _answers(rows: Sequence[Row]) -> str:
    counts = Counter((row["ask"] or "", row["answer"] or "") for row in rows)
    asks = sorted({ask for ask, _ in counts})
    lines = [[ask, *(str(counts[ask, answer]) for answer in ANSWERS)] for ask in asks]
    return _table(["ask", *ANSWERS], lines)


def _teachers(made: Provenance) -> str:
    lines = []
    for name, ask in made.asks.items():
        model = str(ask.teacher.get("model", "")) or "replies recorded earlier"
        # a model on this machine is a path; where it lies is nobody's business
        shown = PurePath(model).name if PurePath(model).is_absolute() else model
        prompts = [f"{p} ({digest})" if digest else p for p, digest in ask.prompts.items()]
        backend, revision = str(ask.teacher["backend"]), ask.teacher.get("revision") or ""
        lines.append([name, backend, shown, str(revision), ", ".join(prompts)])
    return _table(["ask", "backend", "model", "revision", "prompt (SHA-256 of its file)"], lines)


def _checks(made: Provenance) -> str:
    lines = []
    for name, ask in made.asks.items():
        reasons = ", ".join(
            f"{why} {count}" for why, count in sorted(ask.counts["reasons"].items())
        )
        numbers = [str(ask.counts[key]) for key in ("replies", "parsed", "kept")]
        lines.append([name, *numbers, reasons or "none"])
    gate = {True: "passed", False: "**failed**: do not use these pairs", None: "was not run"}
    return (
        _table(["ask", "replies", "read", "kept by check", "dropped because"], lines)
        + f"\nExpectations on the kept pairs as a whole (Great Expectations): {gate[made.gate]}. "
        "Pairs near a question that PubMedQA holds out for dev or test are not among them. "
        f"People decided on {made.decisions} pair(s) by hand.\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    keep = "{parquet_sha256}"
    lines = [head, ["---"] * len(head)]
    lines += [[cell if cell == keep else plain(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
