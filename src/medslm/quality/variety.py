"""The numbers of variety of one group of texts: the real questions, an ask's kept pairs, or all of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from medslm.data.records import Pair, Question
from medslm.params import Section
from medslm.quality.diversity import (
    distinct,
    edit_share,
    histogram,
    quartiles,
    sampled,
    self_bleu,
)
from medslm.quality.text import words

_EDIT_BINS = 20  # of five hundredths


class DiversityParams(Section):
    """How variety is measured; params.yaml says what each knob does."""

    sample: Annotated[int, Field(ge=2)] | None
    bin_words: Annotated[int, Field(ge=1)]


class Group(NamedTuple):
    """Texts by id: questions and long answers as words, and how far the questions and abstracts
    are from their source's, where there is one."""

    questions: dict[str, tuple[str, ...]]
    long_answers: list[tuple[str, ...]]
    question_edits: list[float]
    context_edits: list[float]


def of_questions(questions: Sequence[Question]) -> Group:
    """Return real questions as a group: what generated ones are compared with."""
    return Group(
        {question.pmid: words(question.question) for question in questions},
        [words(question.long_answer) for question in questions],
        [],
        [],
    )


def of_pairs(pairs: Sequence[Pair], sources: Mapping[str, Question]) -> Group:
    """Return pairs as a group; of abstracts only those count that are a pair's own."""
    asked = {pair.id: words(pair.question) for pair in pairs}
    known = [(pair, sources[pair.pmid]) for pair in pairs if pair.pmid in sources]
    return Group(
        asked,
        [words(pair.long_answer) for pair in pairs if pair.long_answer],
        [edit_share(asked[pair.id], words(source.question)) for pair, source in known],
        [
            edit_share(words(pair.context), words(source.context))
            for pair, source in known
            if pair.context is not None
        ],
    )


def together(groups: Sequence[Group]) -> Group:
    """Return several groups as one."""
    return Group(
        {name: text for group in groups for name, text in group.questions.items()},
        [text for group in groups for text in group.long_answers],
        [share for group in groups for share in group.question_edits],
        [share for group in groups for share in group.context_edits],
    )


def numbers(group: Group, *, sample: int | None) -> dict[str, Any]:
    """Return what goes to git: ``n`` texts, those ``compared`` with each other, and their numbers."""
    compared = list(sampled(group.questions, sample).values())
    return {
        "n": len(group.questions),
        "compared": len(compared),
        "distinct_1": distinct(compared, 1),
        "distinct_2": distinct(compared, 2),
        "self_bleu_4": self_bleu(compared),
        "question_words": quartiles([len(text) for text in group.questions.values()]),
        "long_answer_words": quartiles([len(text) for text in group.long_answers]),
        "question_edits": quartiles(group.question_edits) if group.question_edits else None,
        "context_edits": quartiles(group.context_edits) if group.context_edits else None,
    }


def lengths_csv(group: Group, *, bin_words: int) -> str:
    """Return the histogram of question lengths: the share of questions by their words, rounded down."""
    counts = histogram([len(text) for text in group.questions.values()], bin_words)
    return _csv("words", {str(low): count for low, count in counts.items()})


def edits_csv(group: Group) -> str:
    """Return the histogram of edits: the share of questions by how much of them was written anew."""
    bins = histogram(
        [min(int(share * _EDIT_BINS), _EDIT_BINS) for share in group.question_edits], 1
    )
    return _csv("edited", {f"{low / _EDIT_BINS:.2f}": count for low, count in bins.items()})


def _csv(name: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    rows = [f"{value},{count / total:.6f}" for value, count in counts.items()]
    return "\n".join([f"{name},share", *rows]) + "\n"
