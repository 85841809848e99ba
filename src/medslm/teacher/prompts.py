"""The wording sent to a teacher: versioned text files with strict variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Literal, NamedTuple

from medslm.data.records import Message, Question
from medslm.errors import DataError, ParamsError

# What an ask may do to a question, and what a teacher may be asked beside that.
AskStrategy = Literal["rewrite", "new", "counterfactual", "pseudo-label"]
Strategy = Literal["rewrite", "new", "counterfactual", "pseudo-label", "answer"]
Style = Literal["chat", "completion"]

# What a new question can be about. A study is asked about these in turn, so that its questions
# differ; each follows "Ask about".
FOCI: dict[str, str] = {
    "outcome": "an outcome other than the one that is already asked about",
    "subgroup": "one group of the participants, or whether groups of them differ",
    "comparison": "how two treatments, tests, exposures or groups compare",
    "time": "when something happened, changed or ended, or whether it lasted",
    "size": "how large or how frequent something was, measured against a stated figure",
    "harm": "an unwanted effect, a burden or a cost",
    "association": "whether two things that were measured go together",
    "design": "what the way the study was done lets its readers conclude",
}

_PART = re.compile(r"^\[(system|user)\]\n", re.MULTILINE)
_PARAGRAPH = "\n\n"


class _Form(NamedTuple):
    """What a prompt of one style and strategy must use, what else it may use, what ends a reply."""

    required: frozenset[str]
    optional: frozenset[str]
    stop: tuple[str, ...]


def _form(required: str, optional: str = "", *, stop: tuple[str, ...] = ()) -> _Form:
    return _Form(frozenset(required.split()), frozenset(optional.split()), stop)


# A prompt without its case asks about nothing. A completion has no end-of-turn mark: its reply ends
# with the line or the block of lines that the prompt began. Only a pseudo-label shows a conclusion
# in a completion, and no prompt for `answer` can.
_FORMS: dict[tuple[Style, Strategy], _Form] = {
    ("chat", "rewrite"): _form("case", "number"),
    ("chat", "new"): _form("case", "number wanted focus"),
    ("chat", "counterfactual"): _form("case wanted", "number"),
    ("chat", "pseudo-label"): _form("case"),
    ("chat", "answer"): _form("case"),
    ("completion", "rewrite"): _form("question", "context number", stop=("\n",)),
    ("completion", "new"): _form("context", "question number wanted focus", stop=(_PARAGRAPH,)),
    ("completion", "counterfactual"): _form(
        "context question wanted", "answer number", stop=(_PARAGRAPH,)
    ),
    ("completion", "pseudo-label"): _form("context question conclusion", stop=(_PARAGRAPH,)),
    ("completion", "answer"): _form("context question", stop=("\n",)),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file's parts. ``name`` is what records carry, for example "rewrite/chat-v1"."""

    name: str
    strategy: Strategy
    style: Style
    parts: tuple[Message, ...]
    stop: tuple[str, ...]


class Aim(NamedTuple):
    """What one of a study's requests is after: its number, a wanted answer, one of FOCI.

    ``wanted`` and ``focus`` are "" where a strategy has none.
    """

    number: int
    wanted: str
    focus: str


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
    form = _FORMS[style, strategy]
    used: set[str] = set()
    for part in parts:
        template = Template(part.content)
        if not template.is_valid():
            raise DataError(f"prompt {name}: a stray $; write $$ for a dollar sign")
        used.update(template.get_identifiers())
    if unknown := used - form.required - form.optional:
        raise DataError(f"prompt {name}: unknown variable {', '.join(sorted(unknown))}")
    if missing := form.required - used:
        raise DataError(f"prompt {name}: variable {', '.join(sorted(missing))} is missing")
    return Prompt(name, strategy, style, parts, form.stop)


def render(
    prompt: Prompt, question: Question, aim: Aim, shots: Sequence[Question]
) -> tuple[Message, ...]:
    """Fill a prompt in for one question, after ``shots``: worked examples with their gold answers.

    In a chat a shot is the user part and the assistant's reply to it; in a completion it is the
    last paragraph with its answer behind. Nothing is ever cut, and text of a study is never read
    for variables.
    """
    if prompt.style == "completion":
        return (Message("user", _completion(prompt, question, aim, shots)),)
    system, user = prompt.parts
    turns = [Message("system", _fill(system.content, _values(prompt, question, aim)))]
    for shot in shots:
        turns.append(Message("user", _fill(user.content, _values(prompt, shot, aim))))
        turns.append(Message("assistant", json.dumps({"answer": shot.answer})))
    turns.append(Message("user", _fill(user.content, _values(prompt, question, aim))))
    return tuple(turns)


def _completion(prompt: Prompt, question: Question, aim: Aim, shots: Sequence[Question]) -> str:
    text = prompt.parts[0].content
    head, border, block = text.rpartition(_PARAGRAPH)
    shown = [f"{_fill(block, _values(prompt, shot, aim))} {shot.answer}" for shot in shots]
    last = _fill(block, _values(prompt, question, aim))
    return _fill(head, _values(prompt, question, aim)) + border + _PARAGRAPH.join([*shown, last])


def _values(prompt: Prompt, question: Question, aim: Aim) -> Callable[[str], str]:
    """Return what stands for each variable; only what a template names is worked out."""

    def value(name: str) -> str:
        match name:
            case "case":
                return _case(question, prompt.strategy)
            case "question":
                return _one_line(question.question)
            case "context":
                return _one_line(question.context)
            case "conclusion":
                return _one_line(question.long_answer)
            case "answer":
                return question.answer or ""
            case "focus":
                return FOCI[aim.focus]
            case "wanted":
                return aim.wanted
        return str(aim.number)

    return value


def _case(question: Question, strategy: Strategy) -> str:
    """Return the study as JSON: data with an end, whatever an abstract says.

    A rewrite and a counterfactual need the answer that they keep or turn; a pseudo-label rests on
    the conclusion. A new question must be answerable from the passages alone, and an answer be
    found in them alone, so their writers see nothing else.
    """
    case: dict[str, object] = {
        "question": question.question,
        "abstract": [{"label": p.label, "text": p.text} for p in question.sections],
    }
    if strategy in ("rewrite", "counterfactual"):
        case["answer"] = question.answer
    if strategy in ("rewrite", "counterfactual", "pseudo-label"):
        case["conclusion"] = question.long_answer
    return json.dumps(case, ensure_ascii=False, allow_nan=False)


def _one_line(text: str) -> str:
    """Collapse whitespace: a line break inside a study would look like the end of its block."""
    return " ".join(text.split())


def _fill(text: str, value: Callable[[str], str]) -> str:
    pieces = _pieces(text)
    if len(pieces) == 1:
        return pieces[0]
    return "".join(value(p) if number % 2 else p for number, p in enumerate(pieces))


@lru_cache(maxsize=64)
def _pieces(text: str) -> tuple[str, ...]:
    """Cut a template into text and names of variables by turns: filling it again costs no parsing."""
    pieces = [""]
    end = 0
    for found in Template.pattern.finditer(text):
        pieces[-1] += text[end : found.start()]
        end = found.end()
        if name := found["named"] or found["braced"]:
            pieces += [name, ""]
        else:
            pieces[-1] += "$"
    pieces[-1] += text[end:]
    return tuple(pieces)


def _chat_parts(text: str, name: str) -> tuple[Message, ...]:
    pieces = _PART.split(text)
    if pieces[0].strip() or pieces[1::2] != ["system", "user"]:
        raise DataError(f"prompt {name}: a chat prompt is a [system] part, then a [user] part")
    return (Message("system", pieces[2].strip()), Message("user", pieces[4].strip()))
