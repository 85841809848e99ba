"""A teacher's own answers to the held-out questions, read out of its replies for `score`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from medslm.data.records import ANSWERS, Answer, Exchange, Prediction, Question
from medslm.data.split import Fold
from medslm.errors import DataError
from medslm.evaluation.metrics import require_exactly
from medslm.quality.fields import CannotReadError, find_fields

STRATEGY = "answer"

# A word is over at a blank or a mark that ends a phrase: "no/maybe" and "yes-ish" are no answers.
_FIRST_WORD = re.compile(r"[\"'*(]*([a-z]+)[\"'*)]*(?=[\s.,;:!]|$)", re.IGNORECASE)


def read_answer(content: str | None, *, prompt: str) -> Answer | None:
    """Return what a reply says; None when it does not say exactly yes, no or maybe.

    It says so in the field ``answer`` (JSON, fenced JSON or "Answer: ..." lines) or in its first
    word. The first word of a reply to a chat ``prompt`` does not count: that prompt asks for JSON,
    and prose like "No difference was found in men" is not an answer.
    """
    text = (content or "").strip()
    if (stated := _field(text)) is not None or "/chat-" in prompt:
        return stated
    word = _FIRST_WORD.match(text)
    return _known(word.group(1)) if word else None


def predictions(
    exchanges: Sequence[Exchange],
    folds: Mapping[str, Fold],
    dev: Sequence[Question],
    test: Sequence[Question],
) -> Iterator[Prediction]:
    """Yield the answers in the form of a student's, a row for every fold; each was asked once.

    A reply states an answer and no probabilities, so these are empty: nothing is made up for them.
    DataError unless there is exactly one exchange per question.
    """
    require_exactly([q.pmid for q in (*dev, *test)], [e.pmid for e in exchanges], "answers")
    if other := sorted({e.strategy for e in exchanges} - {STRATEGY}):
        raise DataError(f"these are replies to {other[0]!r}, not to {STRATEGY!r}: run answer again")
    found = {e.pmid: read_answer(e.content, prompt=e.prompt) for e in exchanges}
    for name, fold in folds.items():
        own = set(fold.dev)
        yield from _rows("dev", int(name), [q.pmid for q in dev if q.pmid in own], found)
        yield from _rows("test", int(name), [q.pmid for q in test], found)


def unanswered(exchanges: Sequence[Exchange]) -> dict[str, int]:
    """Count the questions without an answer: ``unreadable``, or why the request failed for good."""
    reasons = Counter(
        "unreadable" if e.content is not None else e.finish_reason
        for e in exchanges
        if read_answer(e.content, prompt=e.prompt) is None
    )
    return dict(sorted(reasons.items()))


def _field(text: str) -> Answer | None:
    try:
        value = find_fields(text, strategy=STRATEGY, completes=False).get("answer")
    except CannotReadError:
        return None
    return _known(value) if isinstance(value, str) else None


def _known(word: str) -> Answer | None:
    return next((a for a in ANSWERS if a == word.strip(" .").casefold()), None)


def _rows(
    split: Literal["dev", "test"],
    fold: int,
    pmids: Sequence[str],
    found: Mapping[str, Answer | None],
) -> Iterator[Prediction]:
    for pmid in pmids:
        yield Prediction(split, fold, 0, pmid, {}, found[pmid])
