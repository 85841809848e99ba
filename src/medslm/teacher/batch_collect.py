"""What an ended batch holds becomes bodies in the journal, then replies, or requests to send again."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from medslm.errors import MedslmError
from medslm.teacher import stops
from medslm.teacher.batch_jobs import Job, State, advance
from medslm.teacher.batch_rows import Answer, Fault, Harvest, Refusal, Remote, read_row
from medslm.teacher.batch_wire import BatchWire, Gone, TooLong
from medslm.teacher.budget import Budget
from medslm.teacher.completion import ErrorBody, peek
from medslm.teacher.coordinator import Costs
from medslm.teacher.decisions import Bad, Longer, read
from medslm.teacher.replies import Body, Journal, Reply
from medslm.teacher.requests import Request
from medslm.teacher.retry import Meaning, blames_schema, classify
from medslm.teacher.stops import Rules
from medslm.teacher.wire import failed

log = logging.getLogger(__name__)

# The account's queue of batches has no room for this one (openai-python, issue 2084).
QUEUE_FULL = "token_limit_exceeded"

_GROUP = 256  # bodies made durable at once
# A whole batch of so many rejections is our mistake, not the requests'.
_REJECTED_ALL = 20


class Collector:
    """Collects batches for one job; ``waiting`` is what has still to be sent, in order.

    ``fatal`` is the first error that all other requests would meet as well, ``aside`` are the
    requests that used up their attempts, ``crowded`` is the size of a batch that the account's
    queue had no room for.
    """

    def __init__(
        self,
        wire: BatchWire,
        rules: Rules,
        *,
        costs: Costs,
        budget: Budget,
        journal: Journal,
        requests: Sequence[Request],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._wire = wire
        self._rules = rules
        self._costs = costs
        self._budget = budget
        self._journal = journal
        self._now = now
        self.requests = {request.key: request for request in requests}
        self.waiting: deque[Request] = deque()
        self.structured = rules.structured
        self.fatal: MedslmError | None = None
        self.aside: list[Request] = []
        self.last = ""
        self.tries: Counter[str] = Counter()
        self.crowded: int | None = None

    def replay(self, requests: Iterable[Request]) -> list[Reply]:
        """Read what earlier runs received; a request without a reply from that has to wait."""
        replies = []
        for request in requests:
            bodies = self._journal.bodies(request.key)
            reply = self._decide(request, bodies, again=False) if bodies else None
            if reply is None:
                self.waiting.append(request)
            else:
                replies.append(reply)
        return replies

    def collect(self, job: Job, remote: Remote) -> Iterator[Sequence[Reply]]:
        """Put all that a batch holds on the disk and yield the replies it gives, in groups.

        Stopped anywhere and begun again it does the same, so nothing is counted twice.
        """
        stored: frozenset[str] = frozenset()
        if job.state is State.ENDED:
            stored = frozenset(k for k in job.micros if self._is_stored(k, remote.id))
        else:
            advance(self._journal, job, State.ENDED, int(self._now()))
        harvest = Harvest(dict(job.micros), stored)
        known = [self.requests[key] for key in stored if key in self.requests]
        if replies := self.replay(known):
            yield replies
        for group in self._answers(remote, harvest):
            if replies := self._keep(job, remote, group):
                yield replies
        if replies := self._refused(job, harvest.refused):
            yield replies
        self._end(job, remote, harvest)
        advance(self._journal, job, State.COLLECTED, int(self._now()))

    def drop(self, job: Job, why: str, *, sent: bool) -> None:
        """Give up a batch that was never made: none of its requests was paid for."""
        for key, micros in job.micros.items():
            if sent:
                self._journal.void(key, why)
            self._release(job, micros)
        advance(self._journal, job, State.COLLECTED, int(self._now()))

    def later(self, key: str, why: str) -> None:
        """Let a request wait for another try, or set it aside after its last one."""
        if (request := self.requests.get(key)) is None:
            return
        self.last = why
        (self.aside if self.tries[key] >= self._rules.attempts else self.waiting).append(request)

    def _is_stored(self, key: str, batch_id: str) -> bool:
        """True if this batch's body for the key is in the journal: a batch holds a key once."""
        mark = f"{batch_id}:"
        return any((b.request_id or "").startswith(mark) for b in self._journal.bodies(key))

    def _answers(self, remote: Remote, harvest: Harvest) -> Iterator[list[tuple[Answer, int]]]:
        """Yield the answers in both files, sorting all other rows into the harvest."""
        for file_id in (remote.output_file_id, remote.error_file_id):
            group: list[tuple[Answer, int]] = []
            try:
                for line in self._wire.rows(file_id) if file_id is not None else ():
                    if line.strip() and (found := harvest.take(read_row(line))) is not None:
                        group.append(found)
                    if len(group) >= _GROUP:
                        yield group
                        group = []
            except (Gone, TooLong) as exc:
                log.warning("%s: batch %s: file %s: %s", self._rules.name, remote.id, file_id, exc)
                # What stood there was paid for, but in the file of errors.
                harvest.cut = harvest.cut or file_id == remote.output_file_id
            if group:
                yield group

    def _keep(self, job: Job, remote: Remote, group: Sequence[tuple[Answer, int]]) -> list[Reply]:
        """Make bodies durable, then read them."""
        bodies = []
        for answer, reserved in group:
            seen = peek(answer.text)
            micros = 0 if seen.is_error else self._costs.charge(seen.usage, reserved)
            number = f"{remote.id}:{answer.request_id}"
            created = int(self._now())
            bodies.append(Body(answer.key, answer.text, micros, number, created, job.structured))
            self._settle(job, reserved, micros)
        self._journal.received(bodies)
        replies = []
        for body in bodies:
            request = self.requests.get(body.key)
            if request is None:
                continue  # another ask's; it finds the body in the journal
            reply = self._decide(request, self._journal.bodies(body.key), again=True)
            if reply is not None:
                replies.append(reply)
        return replies

    def _decide(self, request: Request, bodies: Sequence[Body], *, again: bool) -> Reply | None:
        """Return the reply that the last body gives, if any; otherwise arrange the next try.

        ``again`` is False for bodies of an earlier run, whose next try is the caller's.
        """
        try:
            found = read(request, bodies)
        except ErrorBody as exc:
            if again:
                # Status 200 says nothing here; 500 lets the code alone decide.
                meaning = classify(500, exc.code, exc.kind)
                self._act(request.key, meaning, f"an error with status 200: {exc}")
            return None
        if isinstance(found, Bad):
            log.warning("%s, PMID %s: %s", self._rules.name, request.pmid, found.reason)
            if again:
                self.later(request.key, found.reason)
            return None
        if isinstance(found, Longer):
            if again:
                self.waiting.append(request)
            return None
        if not self._rules.accepts(request.model, found.served_model):
            self._stop(stops.other_model(self._rules, request.model, found.served_model))
            return None
        return found

    def _refused(self, job: Job, refused: Sequence[tuple[Refusal, int]]) -> list[Reply]:
        """End the attempts that were refused and return the replies of those that failed for good."""
        replies = []
        rejected = sum(row.meaning is Meaning.REJECTED for row, _ in refused)
        all_rejected = rejected == len(job.micros) >= _REJECTED_ALL
        for row, reserved in refused:
            self._journal.void(row.key, row.said)
            self._release(job, reserved)
            request = self.requests.get(row.key)
            if request is None:
                continue
            if row.meaning is Meaning.REJECTED and job.structured and blames_schema(row.said):
                self._without_schema(row.said)
                self.waiting.append(request)
            elif row.meaning is Meaning.REJECTED and all_rejected:
                self._stop(stops.all_rejected(self._rules, rejected, row.said))
            elif row.meaning in (Meaning.REJECTED, Meaning.FILTERED):
                replies.append(failed(request, row.meaning.value, structured=job.structured))
            else:
                self._act(row.key, row.meaning, row.said)
        return replies

    def _end(self, job: Job, remote: Remote, harvest: Harvest) -> None:
        """End the attempts that no row ended, and say what was odd about the files."""
        lost = harvest.lost(all_missing=harvest.cut or remote.status == "completed")
        for key, reserved in lost.items():
            self._journal.lost(key, f"no readable row in batch {remote.id}")
            self._settle(job, reserved, reserved)
            self.later(key, f"no readable row in batch {remote.id}")
        for key, reserved in harvest.missing.items():
            self._journal.void(key, f"batch {remote.id} {remote.status}")
            self._release(job, reserved)
        if remote.status == "failed" and remote.faults:
            self._failed(job, remote.faults, harvest.missing)
        else:
            for key in harvest.missing:
                self.later(key, f"batch {remote.id} {remote.status}")
        log.info(
            "%s: batch %s %s: %d of %d requests answered, %d refused",
            *(self._rules.name, remote.id, remote.status),
            len(job.micros) - len(harvest.missing) - len(lost) - len(harvest.refused),
            *(len(job.micros), len(harvest.refused)),
        )
        if lost or harvest.nameless or harvest.foreign or harvest.repeated:
            log.warning(
                "%s: batch %s: %d requests without a readable row (counted at their most, asked "
                "again); rows ignored: %d damaged without a name, %d of no request, %d repeated",
                *(self._rules.name, remote.id, len(lost)),
                *(harvest.nameless, harvest.foreign, harvest.repeated),
            )

    def _failed(self, job: Job, faults: Sequence[Fault], keys: Iterable[str]) -> None:
        """Heed why the server refused a whole batch."""
        if any(fault.code == QUEUE_FULL for fault in faults):
            self.put_back(job, keys)
            return
        meanings = [(classify(400, fault.code), fault.said) for fault in faults]
        worst = [m for m in meanings if m[0] is not Meaning.REJECTED] or meanings
        self._stop(self._wire.error(*worst[0]))

    def put_back(self, job: Job, keys: Iterable[str]) -> None:
        """Let requests wait that the queue had no room for: that was no try of theirs."""
        for key in keys:
            if key in self.requests:
                self.tries[key] -= 1
                self.waiting.append(self.requests[key])
        self.crowded = len(job.micros)

    def _act(self, key: str, meaning: Meaning, said: str) -> None:
        if meaning is Meaning.AGAIN:
            self.later(key, said)
        else:
            self._stop(stops.stops_all(self._rules, meaning, said))

    def _stop(self, error: MedslmError) -> None:
        self.fatal = self.fatal or error

    def _without_schema(self, said: str) -> None:
        if self.structured:
            log.warning(
                "%s: it cannot hold replies to a schema (%s); going on without, marked in every "
                "reply as structured: false",
                *(self._rules.name, said),
            )
        self.structured = False

    def _settle(self, job: Job, reserved: int, charged: int) -> None:
        """Exchange a reservation for a charge; one of an earlier run that is not held is spent."""
        if job.held:
            self._budget.settle(reserved, charged)
        else:
            self._budget.settle(0, max(0, charged - reserved))

    def _release(self, job: Job, reserved: int) -> None:
        if job.held:
            self._budget.release(reserved)
