"""The teacher as batches: half the price, up to a day's patience, every request paid once.

A batch is written down step by step (`batch_jobs`), so whatever kills this process, the next run
finds the batch on the server by our number in its metadata instead of making a second one. Bodies
go into the journal before they are read, so finishing in another mode pays for nothing again.
Input and result files are left on the server: they are the user's receipts.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from medslm.errors import TeacherDown
from medslm.signals import Stopping, deferred
from medslm.teacher import stops
from medslm.teacher.batch_collect import Collector
from medslm.teacher.batch_jobs import Job, State
from medslm.teacher.batch_rows import TERMINAL, Remote
from medslm.teacher.batch_submit import LIMITS, Arguments, Limits, Submitter
from medslm.teacher.batch_wire import BatchWire
from medslm.teacher.budget import Budget
from medslm.teacher.coordinator import Costs
from medslm.teacher.replies import Journal, Reply
from medslm.teacher.requests import Request
from medslm.teacher.stops import Rules

log = logging.getLogger(__name__)

# A batch takes minutes to a day: asked after often at first, then once a minute.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH = 5.0, 60.0, 1.5


class _Call(NamedTuple):
    """One call of `answer` or `collect_open`; ``submits`` is False for the latter."""

    submitter: Submitter
    collector: Collector
    stopping: Stopping
    submits: bool


class Batch:
    """Answers requests in batches, one call at a time.

    ``wait_s`` is how long a call stays before it leaves its batches to the server. ``sleep`` None
    waits in real time, or until a signal comes.
    """

    def __init__(
        self,
        wire: BatchWire,
        rules: Rules,
        *,
        arguments: Arguments,
        costs: Costs,
        budget: Budget,
        wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        now: Callable[[], float] = time.time,
        new_number: Callable[[], str] = lambda: secrets.token_hex(16),
        limits: Limits = LIMITS,
    ) -> None:
        self._wire = wire
        self._rules = rules
        self._arguments = arguments
        self._costs = costs
        self._budget = budget
        self._wait_s = wait_s
        self._clock = clock
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleep = self._sleep_or_wake if sleep is None else sleep
        self._now = now
        self._new_number = new_number
        self._limits = limits

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        """Yield replies as batches end, those of earlier runs among them.

        A batch that does not end within ``wait_s`` is left to the server: TeacherDown says how far
        it is, and the next run collects it. After an error that stops all, batches that have ended
        are collected, no new ones are made, then it is raised; a batch at work stays at work.
        """
        with self._begin(requests, journal, submits=True) as call:
            collector = call.collector
            busy = {key for job in call.submitter.jobs for key in job.micros}
            idle = [r for key, r in collector.requests.items() if key not in busy]
            if replies := collector.replay(idle):
                yield replies
            yield from self._work(call)
        if collector.fatal is not None:
            raise collector.fatal
        if collector.aside:
            raise stops.unanswered(self._rules, collector.aside, collector.last)

    def collect_open(
        self, requests: Sequence[Request], journal: Journal
    ) -> Iterator[Sequence[Reply]]:
        """Cancel what earlier runs left at work, keep what was finished, and yield what it gives.

        A request without a reply from that is the caller's: its bodies, if any, are in the journal.
        Raises TeacherDown if the server needs longer than ``wait_s`` to cancel.
        """
        with self._begin(requests, journal, submits=False) as call:
            for job in call.submitter.jobs:
                if job.state is State.SUBMITTED:
                    log.info("%s: cancelling batch %s", self._rules.name, job.batch_id)
                    self._wire.cancel(str(job.batch_id))
            yield from self._work(call)

    @contextlib.contextmanager
    def _begin(
        self, requests: Sequence[Request], journal: Journal, *, submits: bool
    ) -> Iterator[_Call]:
        collector = Collector(
            self._wire,
            self._rules,
            costs=self._costs,
            budget=self._budget,
            journal=journal,
            requests=requests,
            now=self._now,
        )
        submitter = Submitter(
            self._wire,
            self._rules,
            arguments=self._arguments,
            costs=self._costs,
            budget=self._budget,
            journal=journal,
            collector=collector,
            sleep=self._sleep,
            now=self._now,
            new_number=self._new_number,
            limits=self._limits,
        )
        with deferred(lambda: self._woken.put(None)) as stopping:
            submitter.resume()
            yield _Call(submitter, collector, stopping, submits)

    def _work(self, call: _Call) -> Iterator[Sequence[Reply]]:
        """Make batches, look after them and collect each as it ends, until none is left."""
        submitter, collector, stopping, submits = call
        until, pause = self._clock() + self._wait_s, _FIRST_PAUSE_S
        seen: dict[str, Remote] = {}
        while True:
            if submits and not stopping.signum:
                submitter.submit()
            ended = False
            for job in list(submitter.jobs):
                remote = self._look(job, seen)
                if remote.status in TERMINAL:
                    ended = True
                    submitter.jobs.remove(job)
                    yield from collector.collect(job, remote)
                    submitter.heed_crowd()
            if stopping.signum:
                log.info("%s: stopping; batches go on at the server", self._rules.name)
                raise stops.interrupted(self._rules, stopping.signum)
            done = not submitter.jobs and not (submits and collector.waiting)
            if done or (submits and collector.fatal is not None):
                return
            if ended and not submitter.full:
                pause = _FIRST_PAUSE_S
                continue
            if (left := until - self._clock()) <= 0:
                raise self._leave(call, seen)
            self._sleep(min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)

    def _look(self, job: Job, seen: dict[str, Remote]) -> Remote:
        """Ask how far a batch is, and say it when that has changed."""
        remote = self._wire.get(str(job.batch_id))
        if seen.get(job.number) != remote:
            seen[job.number] = remote
            log.info(
                "%s: batch %s: %s, %d of %d done, %d failed",
                *(self._rules.name, remote.id, remote.status),
                *(remote.completed, len(job.micros), remote.failed),
            )
        return remote

    def _leave(self, call: _Call, seen: dict[str, Remote]) -> TeacherDown:
        parts = []
        for job in call.submitter.jobs:
            remote = seen[job.number]
            done = f"{remote.completed} of {len(job.micros)} done"
            parts.append(f"{remote.id}: {done if call.submits else 'being cancelled'}")
        if call.submitter.full:
            parts.append("the account's queue of batches is full")
        if call.submits and call.collector.waiting:
            parts.append(f"{len(call.collector.waiting)} requests wait for their turn")
        hint = " (or set mode: sync to finish there)" if call.submits else ""
        return TeacherDown(
            f"teacher {self._rules.name}: {', '.join(parts)}; nothing is lost: run again later{hint}"
        )

    def _sleep_or_wake(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._woken.get(timeout=seconds)
