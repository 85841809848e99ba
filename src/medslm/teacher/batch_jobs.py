"""What the journal knows about batches: enough to find and finish each one after a kill.

A batch has two notes. ``batch:NUMBER:requests`` lists its keys with their reservations, once: at
most 50,000 keys, some 4 MB. ``batch:NUMBER`` is small and says how far it has come.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from medslm.teacher.replies import Journal

_PREFIX = "batch:"


class State(StrEnum):
    """How far a batch has come. Money can be spent between UPLOADED and ENDED only."""

    UPLOADING = "uploading"  # its input file may be on the server
    UPLOADED = "uploaded"  # it is; the batch itself may be there, its id was not written down
    SUBMITTED = "submitted"  # it is at work, or has ended there
    ENDED = "ended"  # it has ended there; some of its rows may be in the journal
    COLLECTED = "collected"  # every attempt in it is ended in the journal


@dataclass(slots=True)
class Job:
    """One batch. ``number`` is ours: it stands in the batch's metadata and its file's name.

    ``micros`` are the reservations by key in the order of the input file; ``held`` says that this
    run's budget has them reserved.
    """

    number: str
    micros: dict[str, int]
    structured: bool
    state: State
    since: int
    file_id: str | None = None
    batch_id: str | None = None
    held: bool = False

    @property
    def filename(self) -> str:
        """The name of its input file."""
        return f"medslm-{self.number}.jsonl"


def begin(journal: Journal, job: Job) -> None:
    """Write a new batch down, its requests first: a state note always finds them."""
    journal.note(
        f"{_PREFIX}{job.number}:requests",
        {"keys": list(job.micros), "micros": list(job.micros.values())},
    )
    advance(journal, job, job.state, job.since)


def advance(journal: Journal, job: Job, state: State, now: int) -> None:
    """Put a batch's next state on the disk."""
    job.state, job.since = state, now
    journal.note(
        f"{_PREFIX}{job.number}",
        {
            "batch_id": job.batch_id,
            "file_id": job.file_id,
            "since": job.since,
            "state": job.state.value,
            "structured": job.structured,
        },
    )
    if state is State.COLLECTED:  # nobody needs the list any more, and notes are read whole
        journal.note(f"{_PREFIX}{job.number}:requests", None)


def load_jobs(journal: Journal) -> list[Job]:
    """Return the batches that are not collected, oldest first."""
    notes = journal.notes()
    jobs = []
    for name, value in notes.items():
        if not name.startswith(_PREFIX) or name.endswith(":requests"):
            continue
        # The journal's checksum vouches for these fields: we wrote them.
        fields = cast("dict[str, Any]", value)
        if fields["state"] == State.COLLECTED:
            continue
        listed = cast("dict[str, list[Any]]", notes[f"{name}:requests"])
        jobs.append(
            Job(
                number=name.removeprefix(_PREFIX),
                micros=dict(zip(listed["keys"], listed["micros"], strict=True)),
                structured=fields["structured"],
                state=State(fields["state"]),
                since=fields["since"],
                file_id=fields["file_id"],
                batch_id=fields["batch_id"],
            )
        )
    return sorted(jobs, key=lambda job: (job.since, job.number))


def has_open(journal: Journal) -> bool:
    """Say whether an earlier run left a batch that is not collected."""
    return bool(load_jobs(journal))


def held_micros(journal: Journal) -> int:
    """Return how much of `Journal.spent_micros` is what batches at work have reserved.

    A budget starts from the difference: the batch reserves its part again, and settles it by row.
    In any other state what the journal says stands, which is never too little.
    """
    at_work = [job for job in load_jobs(journal) if job.state is State.SUBMITTED]
    held = sum(sum(job.micros.values()) for job in at_work)
    # What this very process sent is not spent yet, and a repaired journal may have lost intents.
    return min(held, journal.spent_micros())
