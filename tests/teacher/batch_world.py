"""A server with batches, a journal, and what a project would put between them."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medslm.errors import (
    MedslmError,
)
from medslm.teacher.batch import Batch
from medslm.teacher.batch_jobs import has_open, held_micros
from medslm.teacher.batch_submit import Arguments, Limits
from medslm.teacher.batch_wire import BatchWire
from medslm.teacher.budget import Budget
from medslm.teacher.coordinator import Coordinator, Costs
from medslm.teacher.limits import Pacer
from medslm.teacher.prompts import load_prompt
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request, build_requests
from medslm.teacher.stops import Rules
from medslm.teacher.store import Store, open_store
from medslm.teacher.wire import Wire
from tests.factories import question
from tests.teacher.fake_batch import (
    FakeBatches,
)

KEY = "sk-canary-0123456789"
MOST = 100  # micro-dollars reserved for each request; one that is answered costs ten
COSTS = Costs(
    most=lambda _request, tokens: MOST * (tokens or 0) // 80,
    charge=lambda usage, most: most if usage is None else usage["completion_tokens"] + 7,
)


AT_ONCE = Limits(50_000, 200_000_000, 0.0)


@dataclass
class Clock:
    """Time that passes only while somebody sleeps."""

    time: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def rules(url: str, **overrides: Any) -> Rules:
    known: dict[str, Any] = {
        "name": "api",
        "where": url,
        "structured": False,
        "concurrency": 4,
        "attempts": 3,
        "backoff_s": 0.01,
        "max_wait_s": 2.0,
        "timeout_s": 5.0,
        "accepts": lambda asked, served: asked == served,
    }
    return Rules(**{**known, **overrides})


def single_wire(url: str) -> Wire:
    return Wire(
        base_url=url,
        key=KEY,
        timeout_s=5.0,
        connections=4,
        response_format=lambda strategy: {"type": "json_schema", "json_schema": strategy},
        service_tier=None,
    )


@functools.cache
def arguments() -> Arguments:
    """What makes a request's body; its wire never sends anything."""
    return single_wire("http://127.0.0.1:9/v1").arguments


@dataclass
class World:
    """A server, a journal folder, and what a project would put between them."""

    server: FakeBatches
    folder: Path
    cap: int | None = None
    wait_s: float = 1000.0
    limits: Limits = AT_ONCE
    max_file_bytes: int = 1 << 24
    key: str | None = KEY
    law: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)

    @contextlib.contextmanager
    def batch(self, store: Store) -> Iterator[Batch]:
        law = rules(self.server.url, **self.law)
        wire = BatchWire(
            law,
            base_url=self.server.url,
            key=self.key,
            rng=random.Random(0),
            sleep=self.clock.sleep,
            max_file_bytes=self.max_file_bytes,
        )
        with contextlib.closing(wire):
            yield Batch(
                wire,
                law,
                arguments=arguments(),
                costs=COSTS,
                budget=Budget(self.cap, store.spent_micros() - held_micros(store)),
                wait_s=self.wait_s,
                clock=self.clock,
                sleep=self.clock.sleep,
                now=self.clock,
                limits=self.limits,
            )

    def run(self, wanted: Sequence[Request], mode: str = "batch") -> MedslmError | None:
        """Do what a run of `ask` does; return the error it ends with."""
        with open_store(self.folder) as store:
            missing = [r for r in wanted if r.key not in store]
            try:
                for group in self.answer(missing, store, mode):
                    store.append(group)
            except MedslmError as exc:
                return exc
        return None

    def answer(self, missing: list[Request], store: Store, mode: str) -> Iterator[Sequence[Reply]]:
        if mode == "batch":
            with self.batch(store) as batch:
                yield from batch.answer(missing, store)
            return
        answered: set[str] = set()
        if has_open(store):
            with self.batch(store) as batch:
                for group in batch.collect_open(missing, store):
                    answered |= {reply.key for reply in group}
                    yield group
        with contextlib.closing(single_wire(self.server.url)) as wire:
            yield from Coordinator(
                wire,
                rules(self.server.url),
                pacer=Pacer(concurrency=4, rpm=None, tpm=None, clock=time.monotonic),
                budget=Budget(self.cap, store.spent_micros()),
                costs=COSTS,
                journal=store,
                rng=random.Random(0),
            ).run([r for r in missing if r.key not in answered])

    def replies(self) -> dict[str, Reply]:
        with open_store(self.folder) as store:
            return {key: store[key] for key in store}

    def spent(self) -> int:
        with open_store(self.folder) as store:
            return store.spent_micros()

    def open(self) -> bool:
        with open_store(self.folder) as store:
            return has_open(store)


def asked(count: int = 4) -> list[Request]:
    return build_requests(
        [question(str(n)) for n in range(1, count + 1)],
        prompt=load_prompt("rewrite", "chat", "v1"),
        strategy="rewrite",
        per_question=1,
        seed=0,
        model="m",
        temperature=0.7,
        top_p=None,
        max_tokens=80,
        identity=lambda *_: {"backend": "openai"},
    )


ASKED = asked()


def seeds(wanted: Sequence[Request]) -> list[int]:
    return sorted(r.sampling.seed for r in wanted)


def once(server: FakeBatches, wanted: Sequence[Request]) -> bool:
    """Whether each of these requests, and nothing else, was paid for, and only once."""
    return sorted(server.paid.elements()) == seeds(wanted)


def contents(world: World) -> dict[str, str | None]:
    return {key: reply.content for key, reply in world.replies().items()}


EXPECTED = {r.key: f"seed {r.sampling.seed}" for r in ASKED}
