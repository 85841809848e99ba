"""The student's prompt: abstract first, so that all questions about one abstract share their beginning."""

from __future__ import annotations

from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.errors import DataError

PROMPT_ID = "abstract-question-answer-v1"
_HEAD = "Abstract: "
_TAIL = "\nQuestion: {question}\nAnswer (yes, no or maybe):"


class Encoded(NamedTuple):
    """Token ids of one prompt; ``cut`` counts abstract tokens left out to fit ``max_tokens``."""

    ids: list[int]
    cut: int


def prompt(context: str, question: str) -> str:
    """Return the text the student reads; the answer follows as " yes", " no" or " maybe"."""
    return _HEAD + context + _TAIL.replace("{question}", question)


def label_ids(tokenizer: Any) -> dict[Answer, int]:
    """Return the one token of each answer; DataError if a tokenizer needs several or two share one."""
    found: dict[Answer, int] = {}
    for answer in ANSWERS:
        with_label = _ids(tokenizer, f"Answer: {answer}")
        without = _ids(tokenizer, "Answer:")
        if with_label[:-1] != without:
            raise DataError(
                f'this tokenizer needs several tokens for " {answer}": not supported yet'
            )
        found[answer] = with_label[-1]
    if len(set(found.values())) != len(ANSWERS):
        raise DataError("this tokenizer gives two answers the same token: not supported")
    return found


def encode(tokenizer: Any, context: str, question: str, *, max_tokens: int) -> Encoded:
    """Tokenise a prompt to at most ``max_tokens``.

    What does not fit is cut from the beginning of the abstract (its background), never from the
    findings at its end or from the question; DataError if the question alone does not fit.
    """
    ids = _ids(tokenizer, prompt(context, question))
    if len(ids) <= max_tokens:
        return Encoded(ids, 0)
    head = _ids(tokenizer, _HEAD.rstrip())
    tail = _ids(tokenizer, prompt("", question)[len(_HEAD) :])
    room = max_tokens - len(head)
    if room <= len(tail):
        raise DataError(
            f"a question needs {len(head) + len(tail)} tokens, student.max_tokens is {max_tokens}: raise it"
        )
    return Encoded(head + ids[-room:], len(ids) - max_tokens)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
