"""What a teacher gives back, what it writes down meanwhile, and the seam behind which it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from medslm.teacher.requests import Request

STOP = "stop"  # the only finish_reason whose content is a whole reply


@dataclass(frozen=True, slots=True)
class Reply:
    """A teacher's last word on the request with this key.

    ``finish_reason`` is "stop" for a whole reply; anything else names why there is none for good,
    and ``content`` then holds what came, if anything did. ``created`` is in seconds since the
    epoch. ``structured`` says whether the teacher was held to a schema or grammar meanwhile.
    """

    key: str
    content: str | None
    finish_reason: str
    usage: dict[str, int] | None
    served_model: str
    created: int
    structured: bool


class Intent(NamedTuple):
    """An attempt about to be made, with the most it can cost in micro-dollars."""

    key: str
    micros: int


class Body(NamedTuple):
    """The raw body of an answer with status 200, before anybody read it, and what it cost."""

    key: str
    text: str
    micros: int
    request_id: str | None
    created: int
    structured: bool


class Journal(Protocol):
    """Where a teacher writes down what may cost money.

    Every ``sending`` of a key is ended by one ``received``, ``void`` or ``lost`` of that key.
    """

    def sending(self, intents: Sequence[Intent]) -> None:
        """Return when all intents are on the disk: only then may they be sent."""
        ...

    def received(self, bodies: Sequence[Body], *, durable: bool = True) -> None:
        """Return when all bodies are on the disk: only then may a reply be made of them.

        Not ``durable``, they are on the disk when the next ``sending`` or ``sync`` returns.
        """
        ...

    def sync(self) -> None:
        """Return when everything written before is on the disk."""
        ...

    def void(self, key: str, why: str) -> None:
        """Note that an attempt cost nothing: it was refused or never arrived."""
        ...

    def lost(self, key: str, why: str) -> None:
        """Note that nobody knows whether an attempt cost something: no whole answer came."""
        ...

    def bodies(self, key: str) -> list[Body]:
        """Return what was received for a key in this and earlier runs, oldest first."""
        ...

    def note(self, name: str, value: object) -> None:
        """Put a small JSON value on the disk under a name; the latest counts."""
        ...

    def notes(self) -> dict[str, object]:
        """Return the latest value under every name."""
        ...

    def spent_micros(self) -> int:
        """Return what was ever spent here: bodies, and attempts that were lost at their most."""
        ...


class Teacher(Protocol):
    """Anything that answers requests. `ask` knows this and never a client."""

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        """Yield every request's reply in any order, in groups, each as soon as it is there.

        A request that fails for good gets a reply whose finish_reason says why. An error that stops
        all of them is raised only after every reply that still arrived was yielded.
        """
        ...
