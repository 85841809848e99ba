"""Smallest valid records, one function each; tests override only what they are about."""

from __future__ import annotations

from typing import Any

from medslm.data.records import Example, Exchange, Pair, Passage, Prediction, Question


def question(pmid: str = "1", **overrides: Any) -> Question:
    fields: dict[str, Any] = {
        "pmid": pmid,
        "question": f"Does treatment {pmid} shorten the hospital stay of adults?",
        "sections": (
            Passage("METHODS", f"We compared {pmid} with usual care in 120 adults."),
            Passage("RESULTS", f"Stay was 4.1 days with {pmid} and 6.0 days without (p=0.01)."),
        ),
        "long_answer": f"Treatment {pmid} shortened the hospital stay of these adults.",
        "answer": "yes",
    }
    return Question(**{**fields, **overrides})


def pair(pmid: str = "1", index: int = 0, **overrides: Any) -> Pair:
    fields: dict[str, Any] = {
        "id": f"local-rewrite:{pmid}:{index}",
        "pmid": pmid,
        "strategy": "rewrite",
        "teacher": "local",
        "prompt": "rewrite/completion-v1",
        "reply_key": f"{int(pmid) * 100 + index:064x}",
        "question": f"Is the time that adults spend in hospital reduced by treatment {pmid}?",
        "context": None,
        "answer": "yes",
        "long_answer": f"Treatment {pmid} shortened the hospital stay of these adults.",
    }
    return Pair(**{**fields, **overrides})


def exchange(pmid: str = "1", index: int = 0, **overrides: Any) -> Exchange:
    fields: dict[str, Any] = {
        "key": f"{int(pmid) * 100 + index:064x}",
        "pmid": pmid,
        "strategy": "rewrite",
        "index": index,
        "teacher": "local",
        "prompt": "rewrite/completion-v1",
        "content": '{"question": "Is hospital stay shorter with the treatment?"}',
        "finish_reason": "stop",
        "served_model": "toy",
        "structured": False,
        "usage": {"prompt_tokens": 10, "completion_tokens": 12},
    }
    return Exchange(**{**fields, **overrides})


def example(pmid: str = "1", **overrides: Any) -> Example:
    fields: dict[str, Any] = {
        "pmid": pmid,
        "question": f"Does treatment {pmid} shorten the hospital stay of adults?",
        "context": f"Stay was 4.1 days with {pmid} and 6.0 days without (p=0.01).",
        "answer": "yes",
        "source": "real",
        "pair_id": None,
    }
    return Example(**{**fields, **overrides})


def prediction(pmid: str = "1", **overrides: Any) -> Prediction:
    fields: dict[str, Any] = {
        "split": "test",
        "fold": 0,
        "seed": 0,
        "pmid": pmid,
        "probabilities": {"yes": 0.6, "no": 0.3, "maybe": 0.1},
        "answer": "yes",
    }
    return Prediction(**{**fields, **overrides})
