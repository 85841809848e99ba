"""The suite on the training set of one variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from medslm.data.records import ANSWERS, REAL, Example, Question
from medslm.quality.expected import Expected, Row, Table, allowed, balance, each, rows_at_least

COLUMNS = {
    "id": "str",
    "pmid": "str",
    "question": "str",
    "context": "str",
    "answer": "str",
    "source": "str",
    "has_source": "bool",
    "in_test": "bool",
    "names_its_pair": "bool",
    "is_as_in_train_if_real": "bool",
}


def table(
    examples: Sequence[Example],
    *,
    train: Sequence[Question],
    unlabelled: Collection[str],
    test: Collection[str],
) -> Table:
    """Return one row per example; a control repeats some, and their ids count them."""
    real = {question.pmid: question for question in train}
    times: Counter[str] = Counter()
    found: list[Row] = []
    for example in examples:
        name = f"{example.source}:{example.pair_id or example.pmid}"
        times[name] += 1
        row = _row(example, real)
        row["id"] = f"{name}#{times[name]}"
        row["has_source"] = example.pmid in real or example.pmid in unlabelled
        row["in_test"] = example.pmid in test
        found.append(row)
    return Table(COLUMNS, sorted(found, key=lambda row: str(row["id"])))


def suite(
    *, asks: Sequence[str], real: Sequence[Question], max_answer_share: float
) -> list[Expected]:
    """Return what a training set has to be: every real question, and something of each ask."""
    contain = "ExpectColumnDistinctValuesToContainSet"
    flags = {column: [True] for column, kind in COLUMNS.items() if kind == "bool"}
    return [
        rows_at_least(len(real)),
        *each("has_text", "ExpectColumnValuesToHaveText", ["question", "context"]),
        *allowed({**flags, "in_test": [False], "answer": ANSWERS, "source": [REAL, *asks]}),
        *each("has_something_of_each", contain, ["source"], value_set=[REAL, *asks]),
        *each("has_every_real_question", contain, ["pmid"], value_set=[q.pmid for q in real]),
        *balance("answer", max_answer_share, "critical"),
    ]


def _row(example: Example, real: Mapping[str, Question]) -> Row:
    source = real.get(example.pmid)
    same = source is not None and (
        (example.question, example.context, example.answer)
        == (source.question, source.context, source.answer)
    )
    return {
        "pmid": example.pmid,
        "question": example.question,
        "context": example.context,
        "answer": example.answer,
        "source": example.source,
        "names_its_pair": (example.pair_id is None) == (example.source == REAL),
        "is_as_in_train_if_real": example.source != REAL or same,
    }
