"""Two hundred SIGKILLs at random moments, and a second process that must not send anything.

``MEDSLM_KILLS`` sets another number of kills; ``make deep`` uses 2,000.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.teacher.fake_endpoint import FakeEndpoint, Received, echo, serving
from tests.teacher.killing import CONCURRENCY, QUESTIONS

KILLS = int(os.environ.get("MEDSLM_KILLS", "200"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 3 * KILLS)]


class Killer:
    """The process of `killing`, by its orders."""

    def __init__(self, url: str, root: Path) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.teacher.killing", url, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def order(self, job: str, *, after_s: float | None = None, locked: bool = True,
              orphan: bool = False) -> dict[str, int]:  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        order = {"job": job, "after_s": after_s, "locked": locked, "orphan": orphan}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    def respond(request: Received, before: int) -> object:
        answer = echo(request)
        answer.delay_s = 0.002 + (before * 7 % 10) / 1000
        return answer

    with serving() as running:
        running.respond = respond  # type: ignore[assignment]
        yield running


@pytest.fixture
def killer(endpoint, tmp_path) -> Iterator[Killer]:
    running = Killer(endpoint.url, tmp_path)
    yield running
    running.close()


def seeds(requests: list[Received]) -> list[int]:
    """Which requests these were: every one has a seed of its own."""
    return [request.body["seed"] for request in requests]


def held(folder: Path) -> set[int]:
    """Return which requests the journal holds a whole body for, found without our own reader."""
    journal = folder / "replies" / "api" / "journal.log"
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    bodies = [line for line in lines if line[9:14] == b"body "]
    return {int(found[1]) for line in bodies if (found := re.search(rb"Is seed (\d+) the", line))}


def test_A29_kills_at_random_moments_change_no_byte_and_pay_for_no_body_again(killer, endpoint):
    assert killer.order("undisturbed")["code"] == 0
    expected = (killer.root / "undisturbed" / "out.jsonl").read_bytes()
    assert len(held(killer.root / "undisturbed")) == len(set(seeds(endpoint.requests))) == QUESTIONS
    generator = random.Random(20261122)
    kills = repeats = job = 0

    while kills < KILLS:
        job += 1
        folder = killer.root / f"job-{job}"
        endpoint.requests.clear()
        killed = True
        while killed:
            paid, sent = held(folder), len(endpoint.requests)
            after_s = generator.uniform(0.005, 0.15) if kills < KILLS else None
            answer = killer.order(folder.name, after_s=after_s)
            killed = bool(answer["killed"])
            kills += killed
            assert not paid & set(seeds(endpoint.requests[sent:]))

        assert answer["code"] == 0
        assert (folder / "out.jsonl").read_bytes() == expected
        again = Counter(seeds(endpoint.requests))
        assert len(again) == QUESTIONS
        repeats += again.total() - QUESTIONS

    assert 0 < repeats <= kills * CONCURRENCY


def test_A32_an_orphan_keeps_its_lock_and_without_the_lock_everything_is_paid_twice(
    killer, endpoint
):
    answering = threading.Event()  # however slow the machine: nothing is answered before

    def held_back(request: Received, before: int) -> object:
        if before >= 2 * CONCURRENCY - 1:
            answering.set()
        answering.wait(timeout=20)
        return echo(request)

    endpoint.respond = held_back
    killer.order("locked", orphan=True)
    wait_for_requests(endpoint, CONCURRENCY)
    started = time.monotonic()
    second = killer.order("locked")
    assert (second["code"], time.monotonic() - started < 5) == (41, True)
    assert len(endpoint.requests) == CONCURRENCY
    answering.set()
    wait_for_requests(endpoint, QUESTIONS)
    time.sleep(0.3)
    assert max(Counter(seeds(endpoint.requests)).values()) == 1

    endpoint.requests.clear()
    answering.clear()
    killer.order("unlocked", orphan=True, locked=False)
    wait_for_requests(endpoint, CONCURRENCY)
    killer.order("unlocked", locked=False)
    assert sum(Counter(seeds(endpoint.requests)).values()) > QUESTIONS + CONCURRENCY


def wait_for_requests(endpoint: FakeEndpoint, count: int) -> None:
    until = time.monotonic() + 20
    while len(endpoint.requests) < count:
        assert time.monotonic() < until
        time.sleep(0.01)
