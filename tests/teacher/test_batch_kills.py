from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from medslm.errors import (
    Interrupted,
    TeacherDown,
)
from medslm.teacher.batch import Batch
from medslm.teacher.batch_jobs import load_jobs
from medslm.teacher.batch_submit import Limits
from medslm.teacher.batch_wire import BatchWire
from medslm.teacher.budget import Budget
from medslm.teacher.replies import Reply
from medslm.teacher.store import Store, open_store
from tests.teacher.batch_world import (
    ASKED,
    COSTS,
    EXPECTED,
    KEY,
    MOST,
    Clock,
    World,
    arguments,
    contents,
    once,
    rules,
)
from tests.teacher.fake_batch import (
    HANG_UP,
    Answer,
    FakeBatches,
    answered,
    fails,
    refused,
    serving_batches,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving_batches() as server:
        yield World(server, tmp_path / "journal")


class Killer:
    """Kills the client at its N-th call, before or after the server has acted on it."""

    def __init__(self, server: FakeBatches, at: int, when: str) -> None:
        self.server, self.at = server, at
        if when == "before":
            server.before = self
        else:
            server.after = self

    def __call__(self, _: str) -> Answer | None:
        if len(self.server.calls) != self.at:
            return None
        # The client's key is its process number: see `child`.
        number = int(self.server.headers[-1]["authorization"].removeprefix("Bearer sk-"))
        os.kill(number, signal.SIGKILL)
        return HANG_UP


def child(url: str, folder: str) -> None:
    """One run of a job of its own process, killed by the server somewhere."""
    server = FakeBatches(0)
    server.url = url
    world = World(server, Path(folder), key=f"sk-{os.getpid()}", limits=Limits(3, 10**8, 0.0))
    error = world.run(ASKED)
    if error is not None:
        raise error


_ZYGOTE = """
import os, sys, httpx2, openai
from tests.teacher.test_batch_kills import child
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        child(*line.split())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Run jobs in processes of their own, forked from one that has imported everything."""
    zygote = subprocess.Popen(
        [sys.executable, "-c", _ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert zygote.stdin is not None
    assert zygote.stdout is not None

    def run(server: FakeBatches, folder: Path) -> int:
        zygote.stdin.write(f"{server.url} {folder}\n")
        zygote.stdin.flush()
        return int(zygote.stdout.readline())

    yield run
    zygote.stdin.close()
    zygote.wait(10)
    zygote.stdout.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_call_loses_nothing_and_pays_nothing_twice(processes, tmp_path, when):
    calls: list[str] = []
    for at in range(1, 40):
        with serving_batches() as server:
            Killer(server, at, when)
            folder = tmp_path / str(at)
            killed = processes(server, folder)
            server.before = server.after = lambda _: None
            calls = list(server.calls)
            assert processes(server, folder) == 0, f"after a kill {when} call {at}, {calls}"
            assert contents(World(server, folder)) == EXPECTED
            assert once(server, ASKED), f"after a kill {when} call {at}, {calls}"
            assert World(server, folder).spent() == 40
            assert not World(server, folder).open()
        if killed == 0:
            break
        assert killed == -signal.SIGKILL

    assert at > 8  # two batches: upload, create, ask, fetch for each
    assert {"POST /files", "POST /batches", "GET /batches/ID", "GET /files/ID/content"} <= set(
        calls
    )


def test_without_the_number_in_the_list_a_kill_after_making_a_batch_pays_twice(processes, tmp_path):
    with serving_batches() as server:
        Killer(server, 2, "after")
        assert processes(server, tmp_path) == -signal.SIGKILL
        assert server.calls == ["POST /files", "POST /batches"]
        server.after = lambda _: None
        server.shows_metadata = False
        assert processes(server, tmp_path) == 0
        for number in list(server.batches):  # the forgotten one runs to its end, too
            server.poll(server.batches[number])

        assert not once(server, ASKED)
        assert max(server.paid.values()) == 2


class Kill(BaseException):
    """Stands for a SIGKILL at a place in this process."""


class Dying(Store):
    """A journal whose process dies before or after its N-th write."""

    at = 0
    writes = 0

    def _write(self, lines: Sequence[bytes], *, durable: bool = True) -> None:
        Dying.writes += 1
        if Dying.writes == Dying.at:
            raise Kill
        super()._write(lines, durable=durable)


def test_a_death_between_any_two_writes_of_the_journal_loses_and_doubles_nothing(
    tmp_path, monkeypatch
):
    def answer(line: dict[str, Any]) -> Any:
        if line["custom_id"] == ASKED[1].key:
            return refused(line, 400, None, "bad request")
        return answered(line)

    for at in range(1, 60):
        with serving_batches() as server:
            server.answer = answer
            world = World(server, tmp_path / str(at), cap=1000, limits=Limits(3, 10**8, 0.0))
            with monkeypatch.context() as patch:
                patch.setattr("medslm.teacher.store.Store", Dying)
                Dying.at, Dying.writes = at, 0
                try:
                    world.run(ASKED)
                    died = False
                except Kill:
                    died = True
            assert world.run(ASKED) is None
            wanted = [r for r in ASKED if r.key != ASKED[1].key]
            assert once(server, wanted), f"a death before write {at}"
            assert set(contents(world)) == set(EXPECTED)
            # The refused one's attempt may stay open when nothing is left to ask: at its most.
            assert world.spent() in (30, 30 + MOST)
        if not died:
            break

    assert at > 15


@pytest.mark.parametrize("mode", ["batch", "sync"])
def test_a_death_before_the_first_reply_pays_for_no_body_again(world, monkeypatch, mode):
    class DyingAtReplies(Store):
        def append(self, _: Sequence[Reply]) -> None:
            raise Kill

    with monkeypatch.context() as patch:
        patch.setattr("medslm.teacher.store.Store", DyingAtReplies)
        with pytest.raises(Kill):
            world.run(ASKED)
    assert world.replies() == {}

    assert world.run(ASKED, mode) is None
    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    assert world.spent() == 40
    assert not world.open()


def test_a_signal_leaves_the_batch_to_the_server(world):
    world.server.polls = 1000
    world.clock.sleep = lambda _: (  # type: ignore[method-assign]
        signal.raise_signal(signal.SIGTERM)
    )

    error = world.run(ASKED)

    assert isinstance(error, Interrupted)
    assert error.exit_code == 128 + signal.SIGTERM
    assert world.server.batches.popitem()[1]["status"] == "in_progress"
    assert world.open()


def test_a_signal_ends_the_wait_at_once(world):
    world.server.polls = 1000
    law = rules(world.server.url)
    wire = BatchWire(law, base_url=world.server.url, key=KEY, rng=random.Random(0))
    signalled: list[float] = []

    def interrupt() -> None:
        signalled.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)

    def after(call: str) -> None:
        if call.startswith("GET /batches/") and not timer.is_alive() and not signalled:
            timer.start()  # it was made, and is waited for from here on

    world.server.after = after

    with open_store(world.folder) as store, contextlib.closing(wire):
        batch = Batch(
            wire,
            law,
            arguments=arguments(),
            costs=COSTS,
            budget=Budget(None, 0),
            wait_s=100.0,
        )
        with pytest.raises(Interrupted):
            list(batch.answer(ASKED, store))
    timer.join()

    assert time.monotonic() - signalled[0] < 20  # of a hundred


def test_a_batch_made_just_before_a_kill_is_given_time_to_appear(world):
    world.limits = Limits(50_000, 10**8, 30.0)
    world.server.after = lambda call: HANG_UP if call == "POST /batches" else None
    world.server.before = lambda call: fails(503) if call == "GET /batches" else None
    assert isinstance(world.run(ASKED), TeacherDown)
    world.server.before = world.server.after = lambda _: None
    world.clock = Clock(world.clock.time)

    with open_store(world.folder) as store:
        (job,) = load_jobs(store)
    assert world.run(ASKED) is None

    assert world.clock.slept[0] <= 30.0
    assert world.clock.time >= job.since + 30.0
    assert len(world.server.batches) == 1
