"""Questions become requests, each with a key made of all that shapes its reply."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from medslm.data.records import Message, Question
from medslm.errors import DataError
from medslm.files import sha256_of_json
from medslm.teacher.prompts import Prompt, Wanted, render

# Raised when the meaning of a key's parts changes, so that no old reply is taken for a new one.
_KEY_VERSION = 1

# Shares of the answers asked for in new questions: PQA-L's own are .55/.34/.11 (PubMedQA, Jin et
# al. 2019, table 2); moved towards equal because macro-F1 counts the rare classes as much as the
# common one.
_WANTED: tuple[tuple[Wanted, float], ...] = (("yes", 0.45), ("no", 0.35), ("maybe", 0.20))


# Of (PMID, strategy, index): all that shapes a reply beside the request's messages and sampling.
Identity = Callable[[str, str, int], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. None leaves a setting to the server; ``stop`` strings end a reply."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask a teacher. Equal keys mean that the same reply would do."""

    key: str
    messages: tuple[Message, ...]
    model: str
    sampling: Sampling
    pmid: str
    strategy: str
    index: int
    prompt: str


def build_requests(
    questions: Sequence[Question],
    *,
    prompt: Prompt | None,
    strategy: str,
    per_question: int,
    seed: int,
    model: str,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int | None,
    identity: Identity,
) -> list[Request]:
    """Return the requests in the order of the questions, then of the index.

    ``prompt`` None is for replies that were written before. Raises DataError if there is no
    question or a PMID is repeated: its replies could not be told apart.
    """
    if not questions:
        raise DataError("there is no question to ask about: the train split is empty")
    _require_unique(questions)
    stop = () if prompt is None else prompt.stop
    requests = []
    for question in questions:
        for index in range(per_question):
            drawn = derived_seed(seed, question.pmid, strategy, index)
            request = Request(
                key="",
                messages=_messages(prompt, question, index, drawn),
                model=model,
                sampling=Sampling(temperature, top_p, max_tokens, drawn, stop),
                pmid=question.pmid,
                strategy=strategy,
                index=index,
                prompt="recorded" if prompt is None else prompt.name,
            )
            requests.append(_with_key(request, identity(question.pmid, strategy, index)))
    return requests


def derived_seed(seed: int, pmid: str, strategy: str, index: int) -> int:
    """Return a request's own 31-bit seed, so that adding questions never changes another's draw."""
    digest = hashlib.sha256(f"{seed}:{pmid}:{strategy}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def wanted_answer(drawn: int) -> Wanted:
    """Return the answer a new question should have, in fixed shares over the derived seeds."""
    share = drawn / 2**31
    for answer, weight in _WANTED:
        share -= weight
        if share < 0:
            return answer
    return _WANTED[-1][0]


def _messages(
    prompt: Prompt | None, question: Question, index: int, drawn: int
) -> tuple[Message, ...]:
    if prompt is None:
        return ()
    return render(prompt, question, number=index + 1, wanted=wanted_answer(drawn))


def _with_key(request: Request, shaped_by: Mapping[str, object]) -> Request:
    shape = asdict(request) | {"key": _KEY_VERSION, "teacher": dict(shaped_by)}
    return replace(request, key=sha256_of_json(shape))


def _require_unique(questions: Sequence[Question]) -> None:
    seen: set[str] = set()
    for question in questions:
        if question.pmid in seen:
            raise DataError(f"PMID {question.pmid} is in the train split twice; run split again")
        seen.add(question.pmid)
