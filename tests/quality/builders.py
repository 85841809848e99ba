"""What the tests of this room share: ballots and limits that drop nothing by accident."""

from __future__ import annotations

import dataclasses
from typing import Any

from medslm.data.records import Ballot, Pair
from medslm.quality.rules import Limits

LIMITS = Limits(
    min_words=3,
    max_words=40,
    near_identical=0.85,
    near_duplicate=0.8,
    copied_words=12,
    min_overlap=0.25,
    min_grounding=0.35,
    require_long_answer=False,
    min_support=None,
    leak_overlap=0.2,
    max_edit_share=0.3,
)

WHOLE: dict[str, Any] = {
    "ask": "local-rewrite",
    "strategy": "rewrite",
    "min_kept": 2,
    "max_answer_share": 0.9,
    "balance_severity": "critical",
    "min_question_chars": 10,
    "max_question_chars": 400,
    "min_context_chars": 20,
}


def limits(**overrides: Any) -> Limits:
    return dataclasses.replace(LIMITS, **overrides)


def ballot(of: Pair, **overrides: Any) -> Ballot:
    fields: dict[str, Any] = {
        "pair_id": of.id,
        "verifier": "toy",
        "probabilities": {"yes": 0.5, "no": 0.3, "maybe": 0.2},
        "votes": ("yes", "yes", "yes"),
        "answer": "yes",
        "consistency": 1.0,
        "weight": 1.0,
    }
    return Ballot(**{**fields, **overrides})
