"""The wording sent to a teacher: versioned text files with strict variables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Literal

from medslm.data.records import Message, Question
from medslm.errors import DataError, ParamsError

Strategy = Literal["rewrite", "new"]
Style = Literal["chat", "completion"]
Wanted = Literal["yes", "no", "maybe"]

_PART = re.compile(r"^\[(system|user)\]\n", re.MULTILINE)

# A completion has no end-of-turn mark: a rewrite is one line, a new question is a block of lines.
_STOP: dict[tuple[Style, Strategy], tuple[str, ...]] = {
    ("chat", "rewrite"): (),
    ("chat", "new"): (),
    ("completion", "rewrite"): ("\n",),
    ("completion", "new"): ("\n\n",),
}

# Variables a prompt must use (a prompt without its case asks about nothing) and those it may use.
_REQUIRED: dict[tuple[Style, Strategy], frozenset[str]] = {
    ("chat", "rewrite"): frozenset({"case"}),
    ("chat", "new"): frozenset({"case"}),
    ("completion", "rewrite"): frozenset({"question"}),
    ("completion", "new"): frozenset({"context"}),
}
_ALLOWED: dict[Style, frozenset[str]] = {
    "chat": frozenset({"case", "number", "wanted"}),
    "completion": frozenset({"question", "context", "number", "wanted"}),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file's parts. ``name`` is what records carry, for example "rewrite/chat-v1"."""

    name: str
    strategy: Strategy
    style: Style
    parts: tuple[Message, ...]
    stop: tuple[str, ...]


def load_prompt(strategy: Strategy, style: Style, version: str) -> Prompt:
    """Read a packaged prompt; ParamsError if there is none, DataError if it is malformed."""
    name = f"{strategy}/{style}-{version}"
    file = resources.files("medslm.teacher") / "prompts" / strategy / f"{style}-{version}.txt"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(
            f"there is no prompt {name}; add the file prompts/{name}.txt or name another"
        ) from None
    return parse_prompt(text, name=name, strategy=strategy, style=style)


def parse_prompt(text: str, *, name: str, strategy: Strategy, style: Style) -> Prompt:
    """Cut a prompt file into messages and check its variables; DataError says what is wrong.

    A chat prompt is ``[system]`` and ``[user]`` parts, a completion prompt is its whole text.
    """
    parts = _chat_parts(text, name) if style == "chat" else (Message("user", text.strip()),)
    used: set[str] = set()
    for part in parts:
        template = Template(part.content)
        if not template.is_valid():
            raise DataError(f"prompt {name}: a stray $; write $$ for a dollar sign")
        used.update(template.get_identifiers())
    if unknown := used - _ALLOWED[style]:
        raise DataError(f"prompt {name}: unknown variable {', '.join(sorted(unknown))}")
    if missing := _REQUIRED[style, strategy] - used:
        raise DataError(f"prompt {name}: variable {', '.join(sorted(missing))} is missing")
    return Prompt(name, strategy, style, parts, _STOP[style, strategy])


def render(
    prompt: Prompt, question: Question, *, number: int, wanted: Wanted
) -> tuple[Message, ...]:
    """Fill a prompt in for one question. Text of the study is never read for variables."""
    values = {
        "case": _case(question, prompt.strategy),
        "question": _one_line(question.question),
        "context": _one_line(question.context),
        "number": str(number),
        "wanted": wanted,
    }
    return tuple(
        Message(part.role, Template(part.content).substitute(values)) for part in prompt.parts
    )


def _case(question: Question, strategy: Strategy) -> str:
    """Return the study as JSON: data with an end, whatever an abstract says.

    A rewrite has to keep the answer, so it sees the answer; a new question must be answerable from
    the passages alone, so its writer sees nothing else.
    """
    case: dict[str, object] = {
        "question": question.question,
        "abstract": [{"label": p.label, "text": p.text} for p in question.sections],
    }
    if strategy == "rewrite":
        case |= {"answer": question.answer, "conclusion": question.long_answer}
    return json.dumps(case, ensure_ascii=False, allow_nan=False)


def _one_line(text: str) -> str:
    """Collapse whitespace: a line break inside a study would look like the end of its block."""
    return " ".join(text.split())


def _chat_parts(text: str, name: str) -> tuple[Message, ...]:
    pieces = _PART.split(text)
    if pieces[0].strip() or pieces[1::2] != ["system", "user"]:
        raise DataError(f"prompt {name}: a chat prompt is a [system] part, then a [user] part")
    return (Message("system", pieces[2].strip()), Message("user", pieces[4].strip()))
