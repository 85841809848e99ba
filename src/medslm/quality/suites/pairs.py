"""The suite on the kept pairs of an ask: one row per pair with its source and its votes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medslm.data.records import ANSWERS, Ballot, Pair, Question
from medslm.quality.expected import (
    PROBABILITY_COLUMNS,
    Expected,
    Row,
    allowed,
    balance,
    each,
    length,
    probabilities,
    probability_columns,
    rows_at_least,
)
from medslm.quality.leakage import HeldOut, held_out_question
from medslm.quality.parse import EDITS_CONTEXT, INHERITS_ANSWER, LABELS_SOURCE
from medslm.quality.text import fold
from medslm.quality.verdict import Severity

UNLABELLED = "unlabelled"  # the gold answer of a source that has none

# Whether pairs have the gold answer: where there is one, a pseudo-label confirms it.
_KEEPS_GOLD = {INHERITS_ANSWER: True, EDITS_CONTEXT: False, LABELS_SOURCE: True}
_RESTS_ON_GOLD = {INHERITS_ANSWER, EDITS_CONTEXT}
_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"

COLUMNS: dict[str, str] = {
    "id": "str",
    "pmid": "str",
    "strategy": "str",
    "teacher": "str",
    "prompt": "str",
    "reply_key": "str",
    "question": "str",
    "folded_question": "str",
    "answer": "str",
    "long_answer": "str",
    "context": "str",
    "source_question": "str",
    "source_answer": "str",
    "has_source": "bool",
    "in_test": "bool",
    "clear_of_held_out": "bool",
    "differs_from_source": "bool",
    "keeps_gold_answer": "bool",
    **PROBABILITY_COLUMNS,
}


def suite(
    *,
    ask: str,
    strategy: str,
    min_kept: int,
    max_answer_share: float,
    balance_severity: Severity,
    min_question_chars: int,
    max_question_chars: int,
    min_context_chars: int,
) -> list[Expected]:
    """Return the expectations on the kept pairs of one ask.

    Answers missing or too frequent count as ``balance_severity``; for rewrites only as a warning,
    since they inherit the gold answers.
    """
    severity: Severity = "warning" if strategy == INHERITS_ANSWER else balance_severity
    once = ["pmid", "folded_question", "context"]
    return [
        rows_at_least(min_kept),
        Expected(
            "no_question_twice_per_abstract",
            "ExpectCompoundColumnsToBeUnique",
            {"column_list": once},
        ),
        *_texts(ask),
        length("question", min_question_chars, max_question_chars),
        length("context", min_context_chars),
        *allowed(_values(strategy)),
        *each(
            "is_the_same_throughout",
            "ExpectColumnUniqueValueCountToBeBetween",
            ["teacher", "prompt"],
            min_value=1,
            max_value=1,
        ),
        *probabilities(),
        *balance("answer", max_answer_share, severity),
    ]


def _texts(ask: str) -> list[Expected]:
    shapes = {
        "id": rf"^{re.escape(ask)}:.+:\d+$",
        "reply_key": r"^[0-9a-f]{64}$",
        "pmid": r"^\S+$",
        "question": _ONE_LINE,
        "long_answer": _ONE_LINE,
    }
    match = "ExpectColumnValuesToMatchRegex"
    return [
        *(Expected("has_its_shape", match, {"column": c, "regex": r}) for c, r in shapes.items()),
        *each("ends_in_question_mark", match, ["question"], regex=r"\?$"),
        *each("has_text", "ExpectColumnValuesToHaveText", ["question", "context"]),
    ]


def _values(strategy: str) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {
        "answer": [*ANSWERS],
        "source_answer": [*ANSWERS],
        "strategy": [strategy],
        "has_source": [True],
        "in_test": [False],
        "clear_of_held_out": [True],
    }
    if strategy in _KEEPS_GOLD:
        values["keeps_gold_answer"] = [_KEEPS_GOLD[strategy]]
    if strategy not in _RESTS_ON_GOLD:
        values["source_answer"].append(UNLABELLED)
    if strategy != LABELS_SOURCE:
        values["differs_from_source"] = [True]
    return values


def rows_of(
    pairs: Sequence[Pair],
    ballots: Sequence[Ballot],
    *,
    train: Sequence[Question],
    unlabelled: Sequence[Question],
    dev: Sequence[Question],
    test: Sequence[Question],
    leak_overlap: float,
) -> list[Row]:
    """Join pairs with their sources and votes; what is missing stays None for a check to find."""
    sources = {question.pmid: question for question in [*train, *unlabelled]}
    votes = {ballot.pair_id: ballot for ballot in ballots}
    test_pmids = {question.pmid for question in test}
    held_out = HeldOut([*dev, *test], text=held_out_question, overlap=leak_overlap)
    rows = []
    for pair in sorted(pairs, key=lambda pair: pair.id):
        row = _row(pair, sources.get(pair.pmid), votes.get(pair.id))
        row["in_test"] = pair.pmid in test_pmids
        row["clear_of_held_out"] = not held_out.has(pair.question, beside=pair.pmid)
        rows.append(row)
    return rows


def _row(pair: Pair, source: Question | None, ballot: Ballot | None) -> Row:
    asked = fold(pair.question)
    return {
        "id": pair.id,
        "pmid": pair.pmid,
        "strategy": pair.strategy,
        "teacher": pair.teacher,
        "prompt": pair.prompt,
        "reply_key": pair.reply_key,
        "question": pair.question,
        "folded_question": asked,
        "answer": pair.answer,
        "long_answer": pair.long_answer,
        "context": pair.abstract(source) if source else None,
        "source_question": source.question if source else None,
        "source_answer": (source.answer or UNLABELLED) if source else None,
        "has_source": source is not None,
        "differs_from_source": source is None or _differs(pair, source),
        "keeps_gold_answer": source is not None and source.answer in (None, pair.answer),
        **probability_columns(ballot.probabilities if ballot else None),
    }


def _differs(pair: Pair, source: Question) -> bool:
    """Tell whether question or abstract are other than the source's."""
    same_abstract = fold(pair.abstract(source)) == fold(source.context)
    return fold(pair.question) != fold(source.question) or not same_abstract
