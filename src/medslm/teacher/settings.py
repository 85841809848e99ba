"""The params sections `teachers` and `asks`, and the door to teachers and requests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from medslm.data.records import Question
from medslm.errors import ParamsError
from medslm.params import Section, load_all, load_value
from medslm.teacher.endpoint import Endpoint, OpenAIParams
from medslm.teacher.local import Local, LocalParams
from medslm.teacher.prompts import Strategy, Style, load_prompt
from medslm.teacher.recorded import RecordedParams, read_recorded
from medslm.teacher.replies import Teacher
from medslm.teacher.requests import Identity, Request, build_requests

TeacherParams = Annotated[
    RecordedParams | OpenAIParams | LocalParams, Field(discriminator="backend")
]

# A name is a folder name and part of a DVC stage name.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]


class AskParams(Section):
    """One ask: which teacher writes how many texts of which kind about each question."""

    teacher: Name
    strategy: Strategy
    prompt: Annotated[str, Field(pattern=r"^v[0-9]+$")]
    per_question: Annotated[int, Field(ge=1, le=100)]
    seed: Annotated[int, Field(ge=0)]


class Plan(NamedTuple):
    """A teacher that is ready to answer, and what to ask it."""

    teacher: Teacher
    teacher_name: str
    requests: list[Request]
    max_failed_share: float


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
    wanted: AskParams = load_all(params, f"asks.{_known(params, 'asks', ask_name)}", AskParams)
    name = _known(params, "teachers", wanted.teacher)
    section: RecordedParams | OpenAIParams | LocalParams = load_all(
        params, f"teachers.{name}", TeacherParams
    )
    teacher, style, identity = _open(section, name, environ)
    requests = build_requests(
        questions,
        prompt=None if style is None else load_prompt(wanted.strategy, style, wanted.prompt),
        strategy=wanted.strategy,
        per_question=wanted.per_question,
        seed=wanted.seed,
        model="recorded" if isinstance(section, RecordedParams) else section.model,
        temperature=None if isinstance(section, RecordedParams) else section.temperature,
        top_p=None if isinstance(section, RecordedParams) else section.top_p,
        max_tokens=None if isinstance(section, RecordedParams) else section.max_tokens,
        identity=identity,
    )
    return Plan(teacher, name, requests, section.max_failed_share)


def _open(
    section: RecordedParams | OpenAIParams | LocalParams, name: str, environ: Mapping[str, str]
) -> tuple[Teacher, Style | None, Identity]:
    if isinstance(section, RecordedParams):
        recorded = read_recorded(section.path, section.sha256)
        return recorded, None, recorded.identity
    if isinstance(section, OpenAIParams):
        endpoint = Endpoint(section, name, environ)
        return endpoint, "chat", lambda _pmid, strategy, _index: endpoint.identity(strategy)
    local = Local(
        section.model, revision=section.revision, dtype=section.dtype, batch_size=section.batch_size
    )
    weights = local.identity()
    return local, "completion", lambda *_: weights


def _known(params: Path, section: str, name: str) -> str:
    entries = load_value(params, section)
    if not isinstance(entries, dict) or name not in entries:
        known = ", ".join(sorted(map(str, entries))) if isinstance(entries, dict) else "none"
        raise ParamsError(
            f"{params}: {section}.{name}: there is no such entry (there are: {known})"
        )
    return name
