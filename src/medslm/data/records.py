"""The records that move between stages, one JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import ConfigDict

Answer = Literal["yes", "no", "maybe"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)

REAL = "real"  # the source of an example that no teacher made

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """One labelled part of an abstract, for example METHODS."""

    __pydantic_config__ = _STRICT
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A study's question with its abstract. ``answer`` is None only in unlabelled data (PQA-U)."""

    __pydantic_config__ = _STRICT
    pmid: str
    question: str
    sections: tuple[Passage, ...]
    long_answer: str
    answer: Answer | None

    @property
    def context(self) -> str:
        """The abstract without its conclusion, passages joined by newlines."""
        return "\n".join(passage.text for passage in self.sections)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat; a completion prompt is a single user message."""

    __pydantic_config__ = _STRICT
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to a teacher and its reply, as `ask` hands it on: no clock, so equal work is equal bytes.

    ``content`` is None when the request failed for good; ``finish_reason`` then says why.
    ``prompt`` names the prompt file with its version; ``usage`` counts tokens where the server said;
    ``structured`` says whether the reply was held to a schema or grammar.
    """

    __pydantic_config__ = _STRICT
    key: str
    pmid: str
    strategy: str
    index: int
    teacher: str
    prompt: str
    content: str | None
    finish_reason: str
    served_model: str
    structured: bool
    usage: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with a teacher's answer. ``pmid`` names its source.

    ``context`` is the abstract when it is the pair's own, None when it is the source's.
    """

    __pydantic_config__ = _STRICT
    id: str
    pmid: str
    strategy: str
    teacher: str
    prompt: str
    reply_key: str
    question: str
    context: str | None
    answer: Answer
    long_answer: str

    def abstract(self, source: Question) -> str:
        """Return the abstract that the question is about."""
        return source.context if self.context is None else self.context


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A reply that gave no pair, with the one reason why."""

    __pydantic_config__ = _STRICT
    key: str
    pmid: str
    strategy: str
    index: int
    reason: str
    content: str | None


@dataclass(frozen=True, slots=True)
class Ballot:
    """A verifier's blind votes on a generated question.

    ``probabilities`` are the mean over the votes, ``answer`` the one that most votes gave: None on a
    tie or when all abstained. ``consistency`` is the share of the votes for the most frequent
    answer, ``weight`` (0 to 1) what the verifier's votes count for, measured on real questions.
    """

    __pydantic_config__ = _STRICT
    pair_id: str
    verifier: str
    probabilities: dict[Answer, float]
    votes: tuple[Answer | None, ...]
    answer: Answer | None
    consistency: float
    weight: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a probe that never saw a pair's study thinks of its answer.

    ``self_confidence`` is the probability of the claimed answer. ``suspected`` is what confident
    learning says; ``doubted`` is that too, but never of a probe that is not worth believing.
    """

    __pydantic_config__ = _STRICT
    pair_id: str
    probabilities: dict[Answer, float]
    self_confidence: float
    suspected: bool
    doubted: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """A pair that was not kept, with every reason."""

    __pydantic_config__ = _STRICT
    pair: Pair
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One training example of a mix: a question with the abstract it belongs to.

    ``source`` is "real" or the name of the ask that made it; ``pair_id`` is None for real ones.
    """

    __pydantic_config__ = _STRICT
    pmid: str
    question: str
    context: str
    answer: Answer
    source: str
    pair_id: str | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A student's answer to one held-out question. ``answer`` is None when it gave none."""

    __pydantic_config__ = _STRICT
    split: Literal["dev", "test"]
    fold: int
    seed: int
    pmid: str
    probabilities: dict[Answer, float]
    answer: Answer | None
