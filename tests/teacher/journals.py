"""Smallest things to put into a reply journal, and one journal that holds a line of every kind."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from medslm.teacher.replies import Body, Intent, Reply
from medslm.teacher.store import open_store


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def reply(name: str = "a", **overrides: Any) -> Reply:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    smallest = Reply(key(name), f"content of {name}", "stop", usage, "m", 0, False)
    return dataclasses.replace(smallest, **overrides)


def body(name: str = "a", micros: int = 7, **overrides: Any) -> Body:
    return Body(key(name), f"body of {name}", micros, "req-1", 0, False)._replace(**overrides)


def intent(name: str = "a", micros: int = 10) -> Intent:
    return Intent(key(name), micros)


def keep(folder: Path, *replies: Reply) -> Path:
    """Append replies one by one; return the journal's path."""
    with open_store(folder) as store:
        for one in replies:
            store.append([one])
    return folder / "journal.log"


def fill(folder: Path) -> Path:
    """Write a journal of two whole rows, a failed one, one in flight and a note."""
    with open_store(folder) as store:
        store.sending([intent("a"), intent("b"), intent("c")])
        store.received([body("a"), body("b")])
        store.append([reply("a")])
        store.append([reply("b")])
        store.void(key("c"), "HTTP 503")
        store.sending([intent("c", 20)])
        store.lost(key("c"), "timeout")
        store.append([reply("c", content=None, finish_reason="rejected", usage=None)])
        store.note("batch", {"id": "batch-1"})
        store.sending([intent("d", 40)])
    return folder / "journal.log"


# What stands on the lines of `fill`'s journal, after its first.
FILLED = [
    *[("sent", "a"), ("sent", "b"), ("sent", "c"), ("body", "a"), ("body", "b")],
    *[("reply", "a"), ("reply", "b"), ("void", "c"), ("sent", "c"), ("lost", "c")],
    *[("reply", "c"), ("note", "batch"), ("sent", "d")],
]
