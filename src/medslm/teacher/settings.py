"""The params sections `teachers`, `asks` and `answers`, and the door to teachers and requests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from medslm.data.records import Answer, Question
from medslm.errors import ParamsError
from medslm.params import Section, load_all, load_value
from medslm.teacher.asking import Plan
from medslm.teacher.endpoint import Endpoint, OpenAIParams
from medslm.teacher.local import Local, LocalParams
from medslm.teacher.prompts import AskStrategy, Strategy, Style, load_prompt
from medslm.teacher.recorded import RecordedParams, read_recorded
from medslm.teacher.replies import Teacher
from medslm.teacher.requests import Identity, build_requests
from medslm.teacher.shots import draw_shots

TeacherParams = RecordedParams | OpenAIParams | LocalParams
_Teacher = Annotated[TeacherParams, Field(discriminator="backend")]

# A name is a folder name and part of a DVC stage name.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
_Prompt = Annotated[str, Field(pattern=r"^v[0-9]+$")]
_Seed = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class AskParams(Section):
    """One ask: which teacher writes how many texts of which kind about each question.

    ``answers`` are the shares of what new questions and counterfactuals aim at; null for
    strategies that aim at nothing.
    """

    teacher: Name
    strategy: AskStrategy
    prompt: _Prompt
    questions: Literal["train", "unlabelled"]
    per_question: Annotated[int, Field(ge=1, le=100)]
    answers: dict[Answer, _Share] | None
    seed: _Seed


class AnswersParams(Section):
    """One teacher's own answers to the held-out questions, after so many worked examples."""

    teacher: Name
    shots: Annotated[int, Field(ge=0, le=100)]
    prompt: _Prompt
    seed: _Seed


def load_ask(params: Path, name: str) -> AskParams:
    """Read the ask of that name from params.yaml; ParamsError for an unknown ask or knob."""
    found: AskParams = load_all(params, f"asks.{_known(params, 'asks', name)}", AskParams)
    return found


def load_teacher(params: Path, name: str) -> TeacherParams:
    """Read the teacher of that name from params.yaml; ParamsError for an unknown one or knob."""
    known = _known(params, "teachers", name)
    found: TeacherParams = load_all(params, f"teachers.{known}", _Teacher)
    return found


def load_plan(
    params: Path,
    ask_name: str,
    questions: Sequence[Question],
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """Make the requests of the ask named in params.yaml and the teacher that can answer them.

    Nothing is sent and no model is loaded; a key is looked up in ``environ`` only when there is
    something to ask. Raises ParamsError for an unknown ask, teacher or knob.
    """
    wanted = load_ask(params, ask_name)
    more: dict[str, Any] = {} if wanted.answers is None else {"answers": wanted.answers}
    return _plan(
        params,
        wanted.teacher,
        environ,
        questions=questions,
        strategy=wanted.strategy,
        prompt=wanted.prompt,
        per_question=wanted.per_question,
        seed=wanted.seed,
        **more,
    )


def load_answers(
    params: Path,
    name: str,
    questions: Sequence[Question],
    examples: Sequence[Question],
    environ: Mapping[str, str] = os.environ,
) -> Plan:
    """Make the requests for a teacher's own answers; worked examples are drawn from ``examples``.

    Raises ParamsError as `load_plan` does and if there are too few examples, LeakageError if one
    of them is asked about.
    """
    wanted: AnswersParams = load_all(
        params, f"answers.{_known(params, 'answers', name)}", AnswersParams
    )
    shots = draw_shots(examples, asked=questions, count=wanted.shots, seed=wanted.seed)
    return _plan(
        params,
        wanted.teacher,
        environ,
        questions=questions,
        strategy="answer",
        prompt=wanted.prompt,
        per_question=1,
        seed=wanted.seed,
        shots=shots,
    )


def _plan(
    params: Path,
    teacher_name: str,
    environ: Mapping[str, str],
    *,
    questions: Sequence[Question],
    strategy: Strategy,
    prompt: str,
    **wanted: Any,
) -> Plan:
    section = load_teacher(params, teacher_name)
    teacher, style, identity = _open(section, teacher_name, environ)
    requests = build_requests(
        questions,
        prompt=None if style is None else load_prompt(strategy, style, prompt),
        strategy=strategy,
        identity=identity,
        **_asked_of(section),
        **wanted,
    )
    return Plan(teacher, teacher_name, requests, section.max_failed_share)


def _asked_of(section: TeacherParams) -> dict[str, Any]:
    """Return the model and the sampling; what was written before had its own."""
    if isinstance(section, RecordedParams):
        return {"model": "recorded", "temperature": None, "top_p": None, "max_tokens": None}
    return {
        "model": section.model,
        "temperature": section.temperature,
        "top_p": section.top_p,
        "max_tokens": section.max_tokens,
    }


def _open(
    section: TeacherParams, name: str, environ: Mapping[str, str]
) -> tuple[Teacher, Style | None, Identity]:
    if isinstance(section, RecordedParams):
        recorded = read_recorded(section.path, section.sha256)
        return recorded, None, recorded.identity
    if isinstance(section, OpenAIParams):
        endpoint = Endpoint(section, name, environ)
        return endpoint, "chat", lambda _pmid, strategy, _index: endpoint.identity(strategy)
    local = Local(
        section.model,
        revision=section.revision,
        dtype=section.dtype,
        batch_size=section.batch_size,
        style=section.style,
        constrained=section.constrained,
    )
    return local, section.style, lambda _pmid, strategy, _index: local.identity(strategy)


def _known(params: Path, section: str, name: str) -> str:
    entries = load_value(params, section)
    if not isinstance(entries, dict) or name not in entries:
        known = ", ".join(sorted(map(str, entries))) if isinstance(entries, dict) else "none"
        raise ParamsError(
            f"{params}: {section}.{name}: there is no such entry (there are: {known})"
        )
    return name
