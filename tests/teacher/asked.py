"""Requests for tests that are not about how requests are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medslm.data.records import Question
from medslm.teacher.prompts import load_prompt
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request, build_requests
from tests.factories import question

# An endpoint teacher's section for tests that are about one or two of its knobs.
OPENAI: dict[str, Any] = {
    "backend": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "key_env": "THE_KEY",
    "model": "m",
    "accept_models": [],
    "temperature": 0.7,
    "top_p": None,
    "max_tokens": 80,
    "structured": False,
    "mode": "sync",
    "batch_wait_s": 0,
    "price": "free",
    "max_usd": None,
    "concurrency": 1,
    "rpm": None,
    "tpm": None,
    "timeout_s": 5.0,
    "attempts": 4,
    "backoff_s": 0.01,
    "max_wait_s": 2.0,
    "max_failed_share": 0.1,
}
ASK: dict[str, Any] = {
    "teacher": "api",
    "strategy": "rewrite",
    "prompt": "v1",
    "questions": "train",
    "per_question": 1,
    "answers": None,
    "seed": 0,
}


def requests(questions: Sequence[Question] | None = None, **overrides: Any) -> list[Request]:
    """Return the requests for some questions; two about each of two by default."""
    known: dict[str, Any] = {
        "prompt": load_prompt("rewrite", "chat", "v1"),
        "strategy": "rewrite",
        "per_question": 2,
        "seed": 0,
        "model": "m",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 80,
        "identity": lambda *_: {"backend": "openai", "base_url": "http://a"},
    }
    return build_requests(questions or [question("1"), question("2")], **{**known, **overrides})


def answers_of(teacher: Any, wanted: Sequence[Request]) -> list[Reply]:
    """Return all replies of a teacher that costs nothing and so writes nothing down."""
    return [reply for group in teacher.answer(wanted, None) for reply in group]
