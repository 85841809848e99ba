"""One thread decides what is sent, kept, repeated or given up; worker threads only carry bytes."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from medslm.signals import Stopping, deferred
from medslm.teacher import stops
from medslm.teacher.budget import Budget
from medslm.teacher.completion import ErrorBody, peek
from medslm.teacher.crew import Crew
from medslm.teacher.decisions import Bad, Longer, limit, read
from medslm.teacher.limits import Pacer, Sent
from medslm.teacher.replies import Body, Intent, Journal, Reply
from medslm.teacher.requests import Request
from medslm.teacher.retry import Meaning, backoff_s, blames_schema, classify, retry_after_s
from medslm.teacher.stops import Rules
from medslm.teacher.wire import Answered, NoAnswer, Refused, failed

log = logging.getLogger(__name__)

# So many rejections one after another are our mistake, not the requests'.
_REJECTED_IN_A_ROW = 20
# Beyond its own timeout no request should be on its way; this is for a slow machine.
_GRACE_S = 30.0
_TELL_AFTER_S = 5.0
# A limit per minute, `rpm` say, asks for this wait at most; what is longer the server asked for.
_OWN_LIMIT_S = 65.0
_COUNTED = ("prompt_tokens", "completion_tokens")


class Carrier(Protocol):
    """What sends one request and returns what came; `wire.Wire` in earnest."""

    def post(self, request: Request, *, max_tokens: int | None, structured: bool) -> Answered:
        """Return the body of a 200, or raise Refused or NoAnswer."""
        ...


class Costs(NamedTuple):
    """What an attempt can cost at most, and what it did cost, in micro-dollars."""

    most: Callable[[Request, int | None], int]
    charge: Callable[[Mapping[str, int] | None, int], int]


@dataclass(slots=True)
class _Task:
    """A request on its way: what was received so far, and how its present attempt was sent."""

    request: Request
    bodies: list[Body]
    tries: int = 0
    waited_since: int = 0  # answers there were when the first attempt failed
    reserved: int = 0
    tokens: int = 0
    max_tokens: int | None = None
    structured: bool = False
    last: str = ""
    sent: Sent | None = None

    @property
    def flight(self) -> Sent:
        """The attempt that is on its way."""
        if self.sent is None:
            raise ValueError("this request was not sent")
        return self.sent


class _Outcome(NamedTuple):
    task: _Task
    result: Answered | Exception


class Coordinator:
    """Answers requests through a carrier: paced, within budget, every attempt journalled."""

    def __init__(
        self,
        carrier: Carrier,
        rules: Rules,
        *,
        pacer: Pacer,
        budget: Budget,
        costs: Costs,
        journal: Journal,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carrier = carrier
        self._rules = rules
        self._pacer = pacer
        self._budget = budget
        self._costs = costs
        self._journal = journal
        self._random = rng
        self._clock = clock
        self._structured = rules.structured
        self._fatal: BaseException | None = None
        self._ready: deque[_Task] = deque()
        self._delayed: list[tuple[float, int, _Task]] = []
        self._aside: list[_Task] = []
        self._number = itertools.count()
        self._answers = 0
        self._rejected = 0  # in a row
        self._failures = 0  # in a row, of the kind that may pass
        self._seen: dict[int, int] = {}
        self._outcomes: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        self._crew = Crew(self._carry)

    def run(self, requests: Sequence[Request]) -> Iterator[Sequence[Reply]]:
        """Yield replies in groups; raise what stops the job after what is in flight was yielded."""
        waiting = iter(requests)
        with deferred(lambda: self._outcomes.put(None)) as stopping, self._crew:
            found: list[Reply] = []
            while True:
                self._heed(stopping)
                replies, pause = self._launch(waiting)
                # Sending has made the bodies durable, too; where nothing was sent this does.
                self._journal.sync()
                if found or replies:
                    yield found + replies
                if not self._pacer.in_flight and pause is None:
                    break
                found = self._settle(self._next(pause), stopping)
        if self._fatal is not None:
            raise self._fatal
        if self._aside:
            tasks = self._aside
            raise stops.unanswered(self._rules, [t.request for t in tasks], tasks[0].last)

    def _heed(self, stopping: Stopping) -> None:
        if stopping.signum and self._fatal is None:
            log.info("stopping: waiting for %d answers on their way", self._pacer.in_flight)
            self._fatal = stops.interrupted(self._rules, stopping.signum)

    def _launch(self, waiting: Iterator[Request]) -> tuple[list[Reply], float | None]:
        """Send what may be sent now.

        Returns replies that stored bodies gave without sending, and the seconds until more may be
        sent: None if nothing waits to be.
        """
        replies: list[Reply] = []
        chosen: list[_Task] = []
        pause: float | None = None
        while self._fatal is None and pause is None:
            if len(chosen) == self._pacer.at_once:
                pause = 0.0
                break
            task = self._take(waiting)
            if task is None:
                pause = self._delayed[0][0] - self._clock() if self._delayed else None
                break
            if not task.tries and task.bodies and (found := self._replay(task)) is not None:
                replies.append(found)
                continue
            if self._fatal is None:
                pause = self._admit(task)
            if pause is None and self._fatal is None:
                chosen.append(task)
            else:
                self._ready.appendleft(task)
        if chosen:
            self._journal.sending([Intent(t.request.key, t.reserved) for t in chosen])
            for task in chosen:
                self._crew.put(task)
        return replies, pause

    def _take(self, waiting: Iterator[Request]) -> _Task | None:
        """Return the next task: one whose wait is over, one put back, or a new one."""
        if self._delayed and self._delayed[0][0] <= self._clock():
            return heapq.heappop(self._delayed)[2]
        # After so many failures in a row it may be down: find out with those that failed.
        doubted = self._failures >= self._rules.concurrency and (
            self._delayed or self._pacer.in_flight
        )
        if self._ready and (self._ready[0].tries or not doubted):
            return self._ready.popleft()
        if doubted:
            return None
        request = next(waiting, None)
        return None if request is None else _Task(request, self._journal.bodies(request.key))

    def _replay(self, task: _Task) -> Reply | None:
        """Read what an earlier run received but did not come to decide on."""
        task.tries = 1
        return self._decide(task, again=False)

    def _admit(self, task: _Task) -> float | None:
        """Reserve room and money for an attempt; otherwise return how long to wait, in seconds."""
        if not task.tokens:
            task.max_tokens = limit(task.request, task.bodies)
            characters = sum(len(m.content) for m in task.request.messages)
            task.tokens = characters // 4 + (task.max_tokens or 0)
        delay = self._pacer.delay(task.tokens)
        if delay is None:
            return self._rules.timeout_s  # until something in flight ends
        if delay > 0:
            if delay > max(self._rules.max_wait_s, _OWN_LIMIT_S):
                self._fatal = stops.wait_too_long(self._rules, delay, "its rate limit")
            elif delay > _TELL_AFTER_S and not self._pacer.in_flight:
                log.info("%s: waiting %.0f s for the rate limit", self._rules.name, delay)
            return delay
        task.reserved = self._costs.most(task.request, task.max_tokens)
        if not self._budget.reserve(task.reserved):
            if self._pacer.in_flight:
                return self._rules.timeout_s  # its settlement may free some
            self._fatal = stops.over_budget(self._rules, self._budget, task.reserved)
            return None
        task.structured = self._structured
        task.tries += 1
        task.sent = self._pacer.sent(task.tokens)
        return None

    def _carry(self, task: _Task) -> None:
        """Run in a worker: send, hand back what came."""
        result: Answered | Exception
        try:
            result = self._carrier.post(
                task.request, max_tokens=task.max_tokens, structured=task.structured
            )
        except Exception as exc:  # noqa: BLE001  # the coordinator decides; a worker must not die
            result = exc
        self._outcomes.put(_Outcome(task, result))

    def _next(self, pause: float | None) -> list[_Outcome]:
        """Wait for an outcome, at most for the pause, and return all that are there by then."""
        found: list[_Outcome] = []
        patience = self._rules.timeout_s + _GRACE_S if pause is None else max(0.0, pause)
        with_timeout = min(patience, 3600.0)
        try:
            outcome = self._outcomes.get(timeout=with_timeout)
            while True:
                if outcome is not None:
                    found.append(outcome)
                outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return found

    def _settle(self, outcomes: Sequence[_Outcome], stopping: Stopping) -> list[Reply]:
        """Write all bodies down, then decide on every outcome.

        The replies rest on bodies that are on the disk with the next sending or sync.
        """
        self._store(outcomes)
        self._heed(stopping)
        replies = []
        for task, result in outcomes:
            found: Reply | None = None
            if isinstance(result, Answered):
                found = self._decide(task, again=True)
            elif isinstance(result, Refused):
                found = self._refused(task, result)
            elif isinstance(result, NoAnswer):
                self._no_answer(task, result)
            else:  # a bug in a worker, not a failure of the endpoint
                self._no_answer(task, NoAnswer(type(result).__name__, charged=True))
                self._fatal = self._fatal or result
            if found is not None:
                replies.append(found)
        if outcomes and self._pacer.stuck_s > self._rules.max_wait_s and self._fatal is None:
            self._fatal = stops.refused_all(self._rules, self._pacer.stuck_s)
        return replies

    def _store(self, outcomes: Sequence[_Outcome]) -> None:
        bodies = []
        for task, result in outcomes:
            if not isinstance(result, Answered):
                continue
            seen = peek(result.text)
            micros = 0 if seen.is_error else self._costs.charge(seen.usage, task.reserved)
            body = Body(
                task.request.key,
                result.text,
                micros,
                result.request_id,
                int(time.time()),
                task.structured,
            )
            task.bodies.append(body)
            bodies.append(body)
            self._budget.settle(task.reserved, micros)
            used = None if seen.usage is None else sum(seen.usage.get(n, 0) for n in _COUNTED)
            self._pacer.succeeded(task.flight, used, result.headers)
        if bodies:
            self._journal.received(bodies, durable=False)

    def _decide(self, task: _Task, *, again: bool) -> Reply | None:
        """Return the reply that the last body gives, if it gives one; otherwise arrange the next try.

        ``again`` is False for bodies of an earlier run, whose next try is the caller's.
        """
        try:
            found = read(task.request, task.bodies)
        except ErrorBody as exc:
            if not again:
                return None
            # Status 200 says nothing here; 500 lets the code alone decide.
            meaning = classify(500, exc.code, exc.kind)
            return self._act(task, meaning, f"an error with status 200: {exc}", None)
        if isinstance(found, Reply) and self._is_anothers(found, task):
            found = Bad("the answer to another request, word for word")
        if isinstance(found, Bad):
            log.warning("%s, PMID %s: %s", self._rules.name, task.request.pmid, found.reason)
            if again:
                self._later(task, found.reason)
            return None
        if isinstance(found, Longer):
            task.tokens = 0
            if again:
                self._ready.appendleft(task)
            return None
        if not self._rules.accepts(task.request.model, found.served_model):
            self._fatal = self._fatal or stops.other_model(
                self._rules, task.request.model, found.served_model
            )
            return None
        self._answers += 1
        self._rejected = self._failures = 0
        return found

    def _is_anothers(self, reply: Reply, task: _Task) -> bool:
        """True if a cache between us and the model gave one request's answer to another."""
        number = peek(task.bodies[-1].text).id
        if number is None or not reply.content:
            return False
        first = self._seen.setdefault(hash((number, reply.content)), hash(reply.key))
        return first != hash(reply.key)

    def _refused(self, task: _Task, refused: Refused) -> Reply | None:
        self._journal.void(task.request.key, f"HTTP {refused.status}")
        self._budget.release(task.reserved)
        meaning = classify(refused.status, refused.code, refused.kind)
        headers = refused.headers
        wait_s = retry_after_s(headers.get("retry-after"), headers.get("date"))
        if refused.status == 429 and meaning is Meaning.AGAIN:
            self._pacer.refused(task.flight, wait_s, headers)
            if wait_s is not None and wait_s > self._rules.max_wait_s:
                self._fatal = self._fatal or stops.wait_too_long(self._rules, wait_s, str(refused))
            task.tries -= 1  # a full house says nothing about this request
            self._ready.appendleft(task)
            return None
        if meaning is Meaning.AGAIN and wait_s is not None:
            self._pacer.refused(task.flight, wait_s, headers)  # a wish that concerns everybody
        else:
            self._pacer.failed(task.flight, headers)
        if meaning is Meaning.REJECTED and task.structured and blames_schema(str(refused)):
            if self._structured:
                log.warning(
                    "%s: it cannot hold replies to a schema (%s); going on without, marked in "
                    "every reply as structured: false",
                    *(self._rules.name, refused),
                )
            self._structured = False
            task.tries -= 1
            self._ready.appendleft(task)
            return None
        return self._act(task, meaning, str(refused), wait_s)

    def _act(self, task: _Task, meaning: Meaning, said: str, wait_s: float | None) -> Reply | None:
        """Do what the meaning of an error asks for; a Reply if the request failed for good."""
        if meaning in (Meaning.FILTERED, Meaning.REJECTED):
            self._rejected = self._rejected + 1 if meaning is Meaning.REJECTED else 0
            if self._rejected >= _REJECTED_IN_A_ROW and self._fatal is None:
                self._fatal = stops.all_rejected(self._rules, self._rejected, said)
            return failed(task.request, meaning.value, structured=task.structured)
        if meaning is Meaning.AGAIN:
            self._later(task, said, wait_s)
            return None
        self._fatal = self._fatal or stops.stops_all(self._rules, meaning, said)
        return None

    def _no_answer(self, task: _Task, what: NoAnswer) -> None:
        if what.charged:
            self._journal.lost(task.request.key, str(what))
            self._budget.settle(task.reserved, task.reserved)
        else:
            self._journal.void(task.request.key, str(what))
            self._budget.release(task.reserved)
        self._pacer.failed(task.flight, {})
        self._later(task, str(what))

    def _later(self, task: _Task, why: str, wait_s: float | None = None) -> None:
        """Try again after a pause, or set the request aside after its last attempt.

        If nothing at all was answered while it was tried, the endpoint is down, not the request.
        """
        if task.tries == 1:
            task.waited_since = self._answers
        self._failures += 1
        task.last = why
        if task.tries >= self._rules.attempts:
            self._aside.append(task)
            if self._answers == task.waited_since and self._fatal is None:
                self._fatal = stops.unanswered(self._rules, [task.request], why)
            return
        if wait_s is not None and wait_s > self._rules.max_wait_s:
            self._fatal = self._fatal or stops.wait_too_long(self._rules, wait_s, why)
        pause = backoff_s(
            task.tries,
            first_s=self._rules.backoff_s,
            cap_s=self._rules.max_wait_s,
            draw=self._random.random(),
        )
        due = self._clock() + max(pause, wait_s or 0.0)
        heapq.heappush(self._delayed, (due, next(self._number), task))
