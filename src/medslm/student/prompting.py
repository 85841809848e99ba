"""The student's prompt: abstract first, so that all questions about one abstract share their beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.errors import DataError

PROMPT_ID = "abstract-question-answer-v1"
_HEAD = "Abstract: "
_TAIL = "\nQuestion: {question}\nAnswer ({options}):"


class Encoded(NamedTuple):
    """Token ids of one prompt; ``cut`` counts abstract tokens left out to fit ``max_tokens``."""

    ids: list[int]
    cut: int


def prompt(context: str, question: str, options: Sequence[Answer] = ANSWERS) -> str:
    """Return the text the student reads; the answer follows as " yes", " no" or " maybe".

    The student is always offered them in this order; votes of a verifier are taken in others too.
    """
    *first, last = options
    tail = _TAIL.replace("{options}", f"{', '.join(first)} or {last}")
    return _HEAD + context + tail.replace("{question}", question)


def label_tokens(tokenizer: Any) -> dict[Answer, tuple[int, ...]]:
    """Return the tokens of each answer that follow a prompt, one or several.

    Raises DataError if a tokenizer joins an answer to the prompt's last token, or gives two answers
    the same tokens: then the prompt could not be shared, or the answers not be told apart.
    """
    before = _ids(tokenizer, "Answer:")
    found: dict[Answer, tuple[int, ...]] = {}
    for answer in ANSWERS:
        ids = _ids(tokenizer, f"Answer: {answer}")
        if ids[: len(before)] != before or len(ids) == len(before):
            raise DataError(
                f'this tokenizer joins " {answer}" to the token before it: not supported; '
                "choose another student.model"
            )
        found[answer] = tuple(ids[len(before) :])
    if len(set(found.values())) != len(ANSWERS):
        raise DataError("this tokenizer gives two answers the same tokens: not supported")
    return found


def label_ids(tokenizer: Any) -> dict[Answer, int]:
    """Return the one token of each answer; DataError if a tokenizer needs several or two share one."""
    found = label_tokens(tokenizer)
    for answer, ids in found.items():
        if len(ids) > 1:
            raise DataError(f'this tokenizer needs several tokens for " {answer}"')
    return {answer: ids[0] for answer, ids in found.items()}


def encode(
    tokenizer: Any,
    context: str,
    question: str,
    options: Sequence[Answer] = ANSWERS,
    *,
    max_tokens: int,
) -> Encoded:
    """Tokenise a prompt to at most ``max_tokens``.

    What does not fit is cut from the beginning of the abstract (its background), never from the
    findings at its end or from the question; DataError if the question alone does not fit.
    """
    first = leading_ids(tokenizer)
    ids = first + _ids(tokenizer, prompt(context, question, options))
    if len(ids) <= max_tokens:
        return Encoded(ids, 0)
    head = first + _ids(tokenizer, _HEAD.rstrip())
    tail = _ids(tokenizer, prompt("", question, options)[len(_HEAD) :])
    room = max_tokens - len(head)
    if room <= len(tail):
        raise DataError(
            f"a question needs {len(head) + len(tail)} tokens, student.max_tokens is {max_tokens}: raise it"
        )
    return Encoded(head + ids[-room:], len(ids) - max_tokens)


def leading_ids(tokenizer: Any) -> list[int]:
    """Return the special tokens that a tokenizer puts before a text (LLaMA, Gemma, BioGPT), often none.

    Such models have never seen a text without them.
    """
    bare = _ids(tokenizer, "Abstract")
    whole = list(tokenizer("Abstract")["input_ids"])
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
