"""What waits becomes batches on the server: each step on the disk before the next, none made twice."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, Protocol

from medslm.errors import MedslmError, ParamsError, TeacherDown
from medslm.files import dump_json
from medslm.teacher import stops
from medslm.teacher.batch_collect import QUEUE_FULL, Collector
from medslm.teacher.batch_jobs import Job, State, advance, begin, load_jobs
from medslm.teacher.batch_rows import Remote
from medslm.teacher.batch_wire import ENDPOINT, BatchWire
from medslm.teacher.budget import Budget
from medslm.teacher.coordinator import Costs
from medslm.teacher.decisions import limit
from medslm.teacher.replies import Intent, Journal
from medslm.teacher.requests import Request
from medslm.teacher.retry import Meaning, classify
from medslm.teacher.stops import Rules
from medslm.teacher.wire import NoAnswer, Refused

log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What one batch may hold, and how long it may take to appear in the server's list."""

    requests: int
    bytes: int
    settle_s: float


# One batch at OpenAI (help.openai.com, 9197833), a megabyte taken as the smaller one. The list
# is not promised to be up to date at once; ten seconds are a guess on the safe side.
LIMITS = Limits(requests=50_000, bytes=200_000_000, settle_s=10.0)


class Arguments(Protocol):
    """What makes a request's JSON body; `wire.Wire.arguments` in earnest."""

    def __call__(
        self, request: Request, *, max_tokens: int | None, structured: bool
    ) -> dict[str, Any]:
        """Return the body that a request would have if it were sent by itself."""
        ...


class Submitter:
    """Makes the batches of one call; ``jobs`` are those at work or ended and not yet collected.

    ``full`` says that the account's queue had no room even for a single request.
    """

    def __init__(
        self,
        wire: BatchWire,
        rules: Rules,
        *,
        arguments: Arguments,
        costs: Costs,
        budget: Budget,
        journal: Journal,
        collector: Collector,
        sleep: Callable[[float], None],
        now: Callable[[], float],
        new_number: Callable[[], str],
        limits: Limits,
    ) -> None:
        self._wire = wire
        self._rules = rules
        self._arguments = arguments
        self._costs = costs
        self._budget = budget
        self._journal = journal
        self._collector = collector
        self._sleep = sleep
        self._now = now
        self._new_number = new_number
        self._limits = limits
        self._alone = False
        self.jobs: list[Job] = []
        self.full = False

    def resume(self) -> None:
        """Take up the batches that earlier runs left and that hold something for these requests."""
        for job in load_jobs(self._journal):
            if job.state is State.SUBMITTED:
                self._hold(job)
            elif job.state is not State.ENDED:
                self._recover(job)
            ours = not self._collector.requests.keys().isdisjoint(job.micros)
            if job.state is State.ENDED or (job.state is State.SUBMITTED and ours):
                self.jobs.append(job)

    def submit(self) -> None:
        """Make batches of what waits, as far as the money and the account's queue reach."""
        collector = self._collector
        self.full = False
        while collector.waiting and collector.fatal is None and not self.full:
            if self._alone and self.jobs:
                return
            with tempfile.TemporaryFile() as stream:
                job = self._cut(stream)
                if job is None:
                    return
                try:
                    self._send(job, stream)
                except MedslmError as exc:
                    collector.fatal = exc

    def heed_crowd(self) -> None:
        """Make smaller batches, one after another, once the account's queue had no room for one."""
        size, self._collector.crowded = self._collector.crowded, None
        if size is None:
            return
        self._alone = True
        if not self.jobs:  # otherwise the room is taken by batches of ours
            self.full = size == 1
            self._limits = self._limits._replace(requests=max(1, size // 2))
        log.info(
            "%s: the account's queue of batches is full; one batch at a time from here, of at most "
            "%d requests",
            *(self._rules.name, self._limits.requests),
        )

    def _hold(self, job: Job) -> None:
        """Reserve what a batch of an earlier run can cost; it is at work, whatever the cap is now."""
        micros = sum(job.micros.values())
        job.held = self._budget.reserve(micros)
        if not job.held:
            self._budget.settle(0, micros)

    def _recover(self, job: Job) -> None:
        """Find out whether a batch was made whose id was not written down; forget it if not."""
        uploaded = job.state is State.UPLOADED
        if uploaded:
            self._sleep(max(0.0, job.since + self._limits.settle_s - self._now()))
            found = self._wire.find(job.number)
            if found is not None:
                self._submitted(job, found)
                return
        with contextlib.suppress(ParamsError):  # a server without batches has no file of ours
            file_id = job.file_id or self._wire.find_file(job.filename)
            if file_id is not None:
                self._wire.delete(file_id)
        self._collector.drop(job, "its batch was never made", sent=uploaded)

    def _cut(self, stream: BinaryIO) -> Job | None:
        """Write as many waiting requests as one batch takes; None if not even one can be paid for.

        Batches at work may free money when they end; without any, that is the end.
        """
        collector, size = self._collector, 0
        job = Job(
            number=self._new_number(),
            micros={},
            structured=collector.structured,
            state=State.UPLOADING,
            since=int(self._now()),
            held=True,
        )
        while collector.waiting and len(job.micros) < self._limits.requests:
            request = collector.waiting[0]
            max_tokens = limit(request, self._journal.bodies(request.key))
            line = self._line(request, max_tokens, job.structured)
            if job.micros and size + len(line) > self._limits.bytes:
                break
            micros = self._costs.most(request, max_tokens)
            if not self._budget.reserve(micros):
                if not job.micros and not self.jobs:
                    collector.fatal = stops.over_budget(self._rules, self._budget, micros)
                break
            stream.write(line)
            size += len(line)
            job.micros[request.key] = micros
            collector.tries[request.key] += 1
            collector.waiting.popleft()
        return job if job.micros else None

    def _line(self, request: Request, max_tokens: int | None, structured: bool) -> bytes:
        body = self._arguments(request, max_tokens=max_tokens, structured=structured)
        line = {"custom_id": request.key, "method": "POST", "url": ENDPOINT, "body": body}
        return (dump_json(line) + "\n").encode("ascii")

    def _send(self, job: Job, stream: BinaryIO) -> None:
        """Bring a batch to the server, every step on the disk before the next is made."""
        begin(self._journal, job)
        try:
            job.file_id = self._wire.upload(stream, job.filename)
        except TeacherDown:
            raise  # the file may be there: the next run looks, and deletes it
        except MedslmError:
            self._collector.drop(job, "its file was refused", sent=False)
            raise
        advance(self._journal, job, State.UPLOADED, int(self._now()))
        self._journal.sending([Intent(key, micros) for key, micros in job.micros.items()])
        try:
            remote = self._create(job)
        except Refused as exc:
            self._never_made(job, exc)
            return
        self._submitted(job, remote)
        self.jobs.append(job)
        log.info(
            "%s: batch %s submitted: %d requests", self._rules.name, remote.id, len(job.micros)
        )

    def _create(self, job: Job) -> Remote:
        """Make the batch; after an answer that leaves it open whether it is there, look first.

        Raises Refused if it is not there and will not be, TeacherDown if nobody says.
        """
        for tries in range(1, self._rules.attempts + 1):
            try:
                return self._wire.create(str(job.file_id), job.number)
            except Refused as exc:
                again = classify(exc.status, exc.code, exc.kind) is Meaning.AGAIN
                if not again or exc.code == QUEUE_FULL:
                    raise
                last: Refused | NoAnswer = exc
            except NoAnswer as exc:
                last = exc
            self._wire.pause(tries, last)
            self._sleep(self._limits.settle_s)
            if (found := self._wire.find(job.number)) is not None:
                return found
        raise TeacherDown(
            f"teacher {self._rules.name} at {self._rules.where}: no batch could be made in "
            f"{self._rules.attempts} attempts, at last {last}; nothing is lost: run again later"
        )

    def _never_made(self, job: Job, refused: Refused) -> None:
        self._collector.drop(job, str(refused), sent=True)
        with contextlib.suppress(TeacherDown):  # a file left behind costs nothing
            self._wire.delete(str(job.file_id))
        if refused.code != QUEUE_FULL:
            meaning = classify(refused.status, refused.code, refused.kind)
            raise self._wire.error(meaning, str(refused)) from refused
        self._collector.put_back(job, job.micros)
        self.heed_crowd()

    def _submitted(self, job: Job, remote: Remote) -> None:
        job.batch_id = remote.id
        advance(self._journal, job, State.SUBMITTED, int(self._now()))
