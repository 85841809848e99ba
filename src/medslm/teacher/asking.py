"""Ask for what is not there yet, keep every reply, hand all of them on in request order."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medslm.data.records import Exchange
from medslm.errors import MedslmError, TooManyFailures
from medslm.files import write_json, write_jsonl
from medslm.teacher.progress import Progress
from medslm.teacher.replies import STOP, Reply, Teacher
from medslm.teacher.requests import Request
from medslm.teacher.store import Store, open_store

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """A teacher that is ready to answer, and what to ask it."""

    teacher: Teacher
    teacher_name: str
    requests: list[Request]
    max_failed_share: float


class Asked(NamedTuple):
    """How the replies came about; ``failed`` is by finish_reason. The replies are in the store."""

    asked: int
    reused: int
    failed: dict[str, int]


def carry_out(plan: Plan, *, work: Path, out: Path, metrics: Path) -> None:
    """Ask what the journal lacks, then write all exchanges in request order, and what they cost.

    Raises what `ask` raises, LockHeld if another process asks this teacher.
    """
    name = plan.teacher_name
    with open_store(work / "replies" / name) as store:
        asked = ask(
            plan.requests,
            store=store,
            teacher=plan.teacher,
            teacher_name=name,
            max_failed_share=plan.max_failed_share,
        )
        write_jsonl(out, exchanges(plan.requests, store, name))
        cost = spend(plan.requests, store, asked)
    write_json(metrics, cost)
    failed = ", ".join(f"{reason} {count}" for reason, count in asked.failed.items()) or "none"
    log.info(
        "%d asked, %d reused, failed: %s; $%.4f in all",
        *(asked.asked, asked.reused, failed, cost["usd"]),
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
        _fill(missing, store, teacher, clock)
    unanswered = [request for request in missing if request.key not in store]
    if unanswered:
        first = unanswered[0]
        raise MedslmError(
            f"teacher {teacher_name} gave no reply to {len(unanswered)} of {len(missing)} "
            f"requests, the first for PMID {first.pmid}: a teacher must answer or fail each one"
        )
    failed = Counter(
        e.finish_reason for e in exchanges(requests, store, teacher_name) if e.content is None
    )
    _require_few_failures(failed, len(requests), teacher_name, max_failed_share)
    return Asked(len(missing), reused, dict(sorted(failed.items())))


def _fill(
    missing: Sequence[Request], store: Store, teacher: Teacher, clock: Callable[[], float]
) -> None:
    progress = Progress(len(missing), reused=0, clock=clock, stream=sys.stderr, log=log.info)
    before = store.spent_micros()
    try:
        for replies in teacher.answer(missing, store):
            store.append(replies)
            progress.count(replies)
            spent = store.spent_micros() - before
            progress.spent(spent if spent else None)
    finally:
        progress.close()


def exchanges(requests: Sequence[Request], store: Store, teacher_name: str) -> Iterator[Exchange]:
    """Yield every request's exchange in request order, read from the store one by one."""
    for request in requests:
        yield exchange(request, store[request.key], teacher_name)


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
        structured=reply.structured,
        usage=reply.usage,
    )


def spend(requests: Sequence[Request], store: Store, asked: Asked) -> dict[str, object]:
    """Return what these requests cost, in all runs together, as a stage's metric.

    ``usd_lost`` is the part of ``usd`` for attempts that nobody knows the outcome of, at the most
    they can have cost.
    """
    account = store.account(request.key for request in requests)
    tokens = Counter[str]()
    for request in requests:
        tokens.update(store[request.key].usage or {})
    return {
        "usd": round((account.micros + account.lost_micros) / 1e6, 6),
        "usd_lost": round(account.lost_micros / 1e6, 6),
        "requests": len(requests),
        "attempts": account.attempts,
        "failed": sum(asked.failed.values()),
        "prompt_tokens": tokens["prompt_tokens"],
        "cached_tokens": tokens["cached_tokens"],
        "completion_tokens": tokens["completion_tokens"],
    }


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
            "change the prompt or the teacher's settings, raise the bound, or forget them with "
            f"`medslm replies repair --retry-failed {name}`"
        )
