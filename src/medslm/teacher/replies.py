"""What a teacher gives back, and the one seam behind which every teacher stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from medslm.teacher.requests import Request

STOP = "stop"  # the only finish_reason whose content is a whole reply


@dataclass(frozen=True, slots=True)
class Reply:
    """A teacher's raw reply to the request with this key.

    ``finish_reason`` is "stop" for a whole reply; anything else names why there is none for good,
    and ``content`` then holds what came, if anything did. ``created`` is in seconds since the
    epoch.
    """

    key: str
    content: str | None
    finish_reason: str
    usage: dict[str, int] | None
    served_model: str
    created: int


class Teacher(Protocol):
    """Anything that answers requests. `ask` knows this and never a client."""

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield one reply per request in any order, each as soon as it is there.

        A request that fails for good gets a reply whose finish_reason says why. An error that stops
        all of them is raised only after every reply that still arrived was yielded.
        """
        ...
