"""What every client is asked: fictional studies, made by counting, so that nothing has to be fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from medslm.data.records import Passage, Question
from medslm.files import write_jsonl

# A word that no other study holds; the server rejects what contains it.
POISON = "venomwort"

_REMEDIES = ("a footbath", "evening light", "a salt rinse", "slow breathing", "a wool cap")
_GROUPS = ("beekeepers", "night-shift bakers", "retired divers", "choir singers", "tram drivers")
_RESULTS = ("fewer headaches", "longer sleep", "less swelling", "a steadier pulse")


def studies(count: int, poisoned: int | None) -> Iterator[Question]:
    """Yield ``count`` studies with PMIDs of digits; the one at ``poisoned`` holds the poison."""
    for number in range(count):
        remedy = POISON if number == poisoned else _REMEDIES[number % len(_REMEDIES)]
        group = _GROUPS[number // 5 % len(_GROUPS)]
        result = _RESULTS[number // 25 % len(_RESULTS)]
        better = 20 + number % 60
        yield Question(
            pmid=str(70_000_000 + number),
            question=f"Does {remedy} number {number} bring {group} {result}?",
            sections=(
                Passage("METHODS", _methods(number, remedy, group)),
                Passage("RESULTS", _results(number, remedy, result, better)),
            ),
            long_answer=f"In {group}, {remedy} number {number} brought {result}.",
            answer="yes",
        )


def write_train(path: Path, count: int, poisoned: int | None) -> None:
    """Write the studies as our train split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, studies(count, poisoned))


def write_prompts(path: Path, count: int, poisoned: int | None) -> None:
    """Write the studies as the peers' rows: an id and a user message of the same size as ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for study in studies(count, poisoned):
            case = {"question": study.question, "abstract": study.context, "answer": study.answer}
            row = {"id": study.pmid, "user": json.dumps(case, ensure_ascii=False)}
            stream.write(json.dumps(row) + "\n")


def _methods(number: int, remedy: str, group: str) -> str:
    return (
        f"In study {number}, {60 + number % 140} {group} of an invented town were allotted by coin "
        f"to {remedy} or to a sham of the same look and smell, taken twice a day for "
        f"{2 + number % 9} weeks. Neither they nor those who counted knew which of the two they had. "
        "The outcome was written into a diary every evening and read by a clerk who had no part in "
        "the study; whoever moved away was counted as unchanged."
    )


def _results(number: int, remedy: str, result: str, better: int) -> str:
    return (
        f"{better} of 100 who had {remedy} number {number} reported {result}, against "
        f"{better // 2} of 100 who had the sham. The difference was as large in the young as in the "
        "old, did not depend on the season, and was still there a month after the last dose. "
        f"{number % 7} people stopped early, all of them for reasons of their own."
    )
