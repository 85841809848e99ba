"""The suite on the raw questions, as they were fetched."""

from __future__ import annotations

from collections.abc import Sequence

from medslm.data.records import ANSWERS, Question
from medslm.quality.expected import (
    Expected,
    Table,
    allowed,
    balance,
    each,
    length,
    rows_at_least,
)

COLUMNS = {
    "id": "str",
    "question": "str",
    "context": "str",
    "long_answer": "str",
    "answer": "str",
    "has_sections": "bool",
}


def table(questions: Sequence[Question]) -> Table:
    """Return one row per question; a missing answer stays None for the suite to find."""
    ordered = sorted(questions, key=lambda question: question.pmid)
    return Table(
        COLUMNS,
        [
            {
                "id": question.pmid,
                "question": question.question,
                "context": question.context,
                "long_answer": question.long_answer,
                "answer": question.answer,
                "has_sections": bool(question.sections),
            }
            for question in ordered
        ],
    )


def suite(
    *,
    min_questions: int,
    max_answer_share: float,
    min_question_chars: int,
    max_question_chars: int,
    min_context_chars: int,
) -> list[Expected]:
    """Return what raw questions have to be; a question asked of two studies is only a warning."""
    once = Expected(
        "is_asked_once", "ExpectColumnValuesToBeUniqueOnceFolded", {"column": "question"}, "warning"
    )
    return [
        rows_at_least(min_questions),
        *each("has_its_shape", "ExpectColumnValuesToMatchRegex", ["id"], regex=r"^\d+$"),
        *each("has_text", "ExpectColumnValuesToHaveText", ["question", "context", "long_answer"]),
        length("question", min_question_chars, max_question_chars),
        length("context", min_context_chars),
        *allowed({"answer": ANSWERS, "has_sections": [True]}),
        once,
        *balance("answer", max_answer_share, "critical"),
    ]
