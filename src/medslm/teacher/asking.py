"""Ask for what is not there yet, keep every reply, hand all of them on in request order."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from medslm.data.records import Exchange
from medslm.errors import MedslmError, TooManyFailures
from medslm.teacher.replies import STOP, Reply, Teacher
from medslm.teacher.requests import Request
from medslm.teacher.store import Store

log = logging.getLogger(__name__)


_PROGRESS_S = 10.0


class Asked(NamedTuple):
    """All exchanges in request order and how they came about; ``failed`` is by finish_reason."""

    exchanges: list[Exchange]
    asked: int
    reused: int
    failed: dict[str, int]


class Progress:
    """Log a line of progress at most every ten seconds."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self._started = self._said = clock()
        self._done = 0
        self._tokens = 0

    def count(self, reply: Reply) -> None:
        """Count a reply that is stored."""
        self._done += 1
        self._tokens += (reply.usage or {}).get("completion_tokens", 0)
        now = self._clock()
        if now - self._said < _PROGRESS_S or self._done == self._total:
            return
        self._said = now
        elapsed = now - self._started
        left = elapsed / self._done * (self._total - self._done)
        log.info(
            "%d of %d answered, %.0f tokens/s, about %.0f s left",
            self._done,
            self._total,
            self._tokens / elapsed,
            left,
        )


def ask(
    requests: Sequence[Request],
    *,
    store: Store,
    teacher: Teacher,
    teacher_name: str,
    max_failed_share: float,
    clock: Callable[[], float] = time.monotonic,
) -> Asked:
    """Ask the teacher for every key that the store lacks; each reply is stored as it comes.

    Raises TooManyFailures, after everything is stored, if more than ``max_failed_share`` of all
    requests failed for good; errors of the teacher pass through with what it answered stored.
    """
    missing = [request for request in requests if request.key not in store]
    reused = len(requests) - len(missing)
    log.info("%d requests: %d to ask, %d answered before", len(requests), len(missing), reused)
    if missing:
        progress = Progress(len(missing), clock)
        for reply in teacher.answer(missing):
            store.append(reply)
            progress.count(reply)
    unanswered = [request for request in missing if request.key not in store]
    if unanswered:
        first = unanswered[0]
        raise MedslmError(
            f"teacher {teacher_name} gave no reply to {len(unanswered)} of {len(missing)} "
            f"requests, the first for PMID {first.pmid}: a teacher must answer or fail each one"
        )
    exchanges = [exchange(request, store[request.key], teacher_name) for request in requests]
    failed = Counter(e.finish_reason for e in exchanges if e.content is None)
    _require_few_failures(failed, len(exchanges), teacher_name, max_failed_share)
    return Asked(exchanges, len(missing), reused, dict(sorted(failed.items())))


def exchange(request: Request, reply: Reply, teacher_name: str) -> Exchange:
    """Join a request with its reply. Only a whole reply has content: a cut one is a failed one."""
    whole = reply.finish_reason == STOP
    valid = whole and reply.content is not None and _is_unicode(reply.content)
    return Exchange(
        key=request.key,
        pmid=request.pmid,
        strategy=request.strategy,
        index=request.index,
        teacher=teacher_name,
        prompt=request.prompt,
        content=reply.content if valid else None,
        finish_reason="invalid" if whole and not valid else reply.finish_reason,
        served_model=reply.served_model,
        usage=reply.usage,
    )


def _is_unicode(text: str) -> bool:
    """False for lone surrogates: JSON can carry them, no file of ours can be read with them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_few_failures(failed: Counter[str], total: int, name: str, bound: float) -> None:
    count = failed.total()
    if total and count / total > bound:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(failed.items()))
        raise TooManyFailures(
            f"teacher {name}: {count} of {total} requests failed for good ({reasons}), more than "
            f"max_failed_share {bound:g} allows; all replies are stored, so a rerun asks nothing: "
            "change the prompt or the teacher's settings, or raise the bound"
        )
