"""The suite on the parts that the questions were split into, and on the folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medslm.data.records import ANSWERS, Question
from medslm.data.split import Fold
from medslm.quality.expected import Expected, Row, Table, allowed, each, rows_at_least
from medslm.quality.text import fold

LABELLED = ("train", "dev", "test")
COLUMNS = {
    "id": "str",
    "part": "str",
    "question": "str",
    "context": "str",
    "part_and_answer": "str",
    "apart_from_test": "bool",
    "asked_apart_from_test": "bool",
    "in_a_fold": "bool",
    "on_one_side_of_each_fold": "bool",
    "has_answer_if_labelled": "bool",
}


def table(parts: Mapping[str, Sequence[Question]], folds: Mapping[str, Fold]) -> Table:
    """Return one row per question and part; ``parts`` are train, dev, test and unlabelled.

    Train and dev share questions when several folds are in use, but no fold has one on both sides.
    """
    others = [question for part in parts if part != "test" for question in parts[part]]
    held_out = {question.pmid for question in parts["test"]}
    elsewhere = {question.pmid for question in others}
    asked = {fold(question.question) for question in parts["test"]}
    used = {pmid for each_fold in folds.values() for pmid in (*each_fold.train, *each_fold.dev)}
    both = {pmid for f in folds.values() for pmid in set(f.train) & set(f.dev)}
    found: list[Row] = []
    for part, questions in sorted(parts.items()):
        for question in sorted(questions, key=lambda question: question.pmid):
            against = elsewhere if part == "test" else held_out
            found.append(
                {
                    "id": f"{part}:{question.pmid}",
                    "part": part,
                    "question": question.question,
                    "context": question.context,
                    "part_and_answer": f"{part} {question.answer or 'unlabelled'}",
                    "apart_from_test": question.pmid not in against,
                    "asked_apart_from_test": part == "test" or fold(question.question) not in asked,
                    "in_a_fold": part not in ("train", "dev") or question.pmid in used,
                    "on_one_side_of_each_fold": question.pmid not in both,
                    "has_answer_if_labelled": (question.answer is not None) == (part in LABELLED),
                }
            )
    return Table(COLUMNS, found)


def suite(*, min_questions: int) -> list[Expected]:
    """Return what the parts have to be; an answer that a small dev part lacks is only a warning."""
    contain = "ExpectColumnDistinctValuesToContainSet"
    every = {part: [f"{part} {answer}" for answer in ANSWERS] for part in LABELLED}
    flags = [column for column, kind in COLUMNS.items() if kind == "bool"]
    column = "part_and_answer"
    return [
        rows_at_least(min_questions),
        *each("has_text", "ExpectColumnValuesToHaveText", ["question", "context"]),
        *allowed({"part": [*LABELLED, "unlabelled"], **{flag: [True] for flag in flags}}),
        *each("every_part_is_there", contain, ["part"], value_set=[*LABELLED]),
        *(
            Expected(
                f"{part}_has_every_answer",
                contain,
                {"column": column, "value_set": values},
                "warning" if part == "dev" else "critical",
            )
            for part, values in every.items()
        ),
    ]
