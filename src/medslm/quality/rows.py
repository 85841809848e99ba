"""One flat row per kept pair, as the expectations see it: the pair, its source and its votes."""

from __future__ import annotations

from collections.abc import Sequence

from medslm.data.records import Ballot, Pair, Question
from medslm.quality.leakage import HeldOut, held_out_question
from medslm.quality.text import fold

UNLABELLED = "unlabelled"  # the gold answer of a source that has none

Row = dict[str, str | bool | float | None]

# Every column with the type it has in a data frame. What no expectation of one column could say,
# like a match with another file, is worked out here as a boolean.
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
    "is_yes": "float64",
    "is_no": "float64",
    "is_maybe": "float64",
    "p_yes": "float64",
    "p_no": "float64",
    "p_maybe": "float64",
    "p_sum": "float64",
}


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
    p = ballot.probabilities if ballot else None
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
        "is_yes": float(pair.answer == "yes"),
        "is_no": float(pair.answer == "no"),
        "is_maybe": float(pair.answer == "maybe"),
        "p_yes": p["yes"] if p else None,
        "p_no": p["no"] if p else None,
        "p_maybe": p["maybe"] if p else None,
        "p_sum": sum(p.values()) if p else None,
    }


def _differs(pair: Pair, source: Question) -> bool:
    """Tell whether question or abstract are other than the source's."""
    same_abstract = fold(pair.abstract(source)) == fold(source.context)
    return fold(pair.question) != fold(source.question) or not same_abstract
