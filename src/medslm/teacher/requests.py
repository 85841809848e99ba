"""Questions become requests, each with a key made of all that shapes its reply."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from medslm.data.records import Answer, Message, Question
from medslm.errors import DataError, LeakageError, ParamsError
from medslm.files import sha256_of_json
from medslm.teacher.aims import ANSWER_SHARES, aims_of
from medslm.teacher.prompts import Aim, Prompt, render

# Raised when the meaning of a key's parts changes, so that no old reply is taken for a new one.
_KEY_VERSION = 1

# Strategies whose pairs rest on the gold answer of their source.
_NEEDS_GOLD = frozenset({"rewrite", "counterfactual"})

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
    """One thing to ask a teacher. Equal keys mean that the same reply would do.

    ``write`` renders the messages: held for 100,000 requests they would fill the memory.
    """

    key: str
    model: str
    sampling: Sampling
    pmid: str
    strategy: str
    index: int
    prompt: str
    write: Callable[[], tuple[Message, ...]] = field(repr=False, compare=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages to send, rendered anew each time; none for replies written before."""
        return self.write()


class _Writing:
    """Renders one request's messages; a third of the size of a partial."""

    __slots__ = ("_aim", "_prompt", "_question", "_shots")

    def __init__(
        self, prompt: Prompt, question: Question, aim: Aim, shots: Sequence[Question]
    ) -> None:
        self._prompt, self._question, self._aim, self._shots = prompt, question, aim, shots

    def __call__(self) -> tuple[Message, ...]:
        return render(self._prompt, self._question, self._aim, self._shots)


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
    answers: Mapping[Answer, float] = ANSWER_SHARES,
    shots: Sequence[Question] = (),
) -> list[Request]:
    """Return the requests in the order of the questions, then of the index.

    ``prompt`` None is for replies that were written before, ``answers`` are the shares of what new
    questions and counterfactuals aim at (see ``aims``), ``shots`` the worked examples of strategy
    ``answer``. Raises DataError if there is no question, a PMID is repeated (its replies could not
    be told apart) or a gold answer is missing, LeakageError if a shot is itself asked about.
    """
    _require_askable(questions, strategy)
    _require_shots(shots, questions, strategy)
    aim_of = aims_of(
        questions, strategy=strategy, per_question=per_question, seed=seed, answers=answers
    )
    stop = () if prompt is None else prompt.stop
    requests = []
    for question in questions:
        for index in range(per_question):
            drawn = derived_seed(seed, question.pmid, strategy, index)
            write: Callable[[], tuple[Message, ...]] = tuple
            if prompt is not None:
                write = _Writing(prompt, question, aim_of(question, index), shots)
            request = _keyed(
                identity(question.pmid, strategy, index),
                model=model,
                sampling=Sampling(temperature, top_p, max_tokens, drawn, stop),
                pmid=question.pmid,
                strategy=strategy,
                index=index,
                prompt="recorded" if prompt is None else prompt.name,
                write=write,
            )
            requests.append(request)
    return requests


def derived_seed(seed: int, pmid: str, strategy: str, index: int) -> int:
    """Return a request's own 31-bit seed, so that adding questions never changes another's draw."""
    digest = hashlib.sha256(f"{seed}:{pmid}:{strategy}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _keyed(
    shaped_by: Mapping[str, object],
    *,
    model: str,
    sampling: Sampling,
    pmid: str,
    strategy: str,
    index: int,
    prompt: str,
    write: Callable[[], tuple[Message, ...]],
) -> Request:
    """Return a request whose key is the hash of everything it is made of, messages rendered."""
    shape = {
        "key": _KEY_VERSION,
        "teacher": dict(shaped_by),
        "messages": [{"role": m.role, "content": m.content} for m in write()],
        "model": model,
        "sampling": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stop": sampling.stop,
        },
        "pmid": pmid,
        "strategy": strategy,
        "index": index,
        "prompt": prompt,
    }
    key = sys.intern(sha256_of_json(shape))
    return Request(key, model, sampling, pmid, strategy, index, prompt, write)


def _require_askable(questions: Sequence[Question], strategy: str) -> None:
    if not questions:
        raise DataError(
            "there is no question to ask about: the train split is empty, or data.unlabelled null"
        )
    seen: set[str] = set()
    for question in questions:
        if question.pmid in seen:
            raise DataError(f"PMID {question.pmid} is in the train split twice; run split again")
        seen.add(question.pmid)
        if strategy in _NEEDS_GOLD and question.answer is None:
            raise DataError(
                f"PMID {question.pmid} has no gold answer, which strategy {strategy} rests on; "
                "put this ask to labelled questions"
            )


def _require_shots(shots: Sequence[Question], questions: Sequence[Question], strategy: str) -> None:
    if shots and strategy != "answer":
        raise ParamsError(f"strategy {strategy} takes no worked examples; only answer does")
    asked = {question.pmid for question in questions}
    for shot in shots:
        if shot.pmid in asked:
            raise LeakageError(f"PMID {shot.pmid} is asked about and shown with its answer")
        if shot.answer is None:
            raise DataError(f"PMID {shot.pmid}: a worked example without an answer")
