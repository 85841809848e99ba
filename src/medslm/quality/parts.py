"""The parts of the questions as the stage `split` wrote them."""

from __future__ import annotations

from pathlib import Path

from medslm.data.records import Question
from medslm.files import read_jsonl

PARTS = ("train", "dev", "test", "unlabelled")


def parts_of(split: Path) -> dict[str, list[Question]]:
    """Return the parts by name."""
    return {part: read_jsonl(split / f"{part}.jsonl", Question) for part in PARTS}
