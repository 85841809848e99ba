"""What a reply of the local teacher may look like, so that each one that ends can be read."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from medslm.data.records import ANSWERS
from medslm.teacher.prompts import Style
from medslm.teacher.schemas import response_format

# Characters a reader can see: no controls, nothing invisible, nothing newer than the Unicode 14 of
# Python 3.11, and no combining marks, since only so many may follow each other.
_SEEN = r"\p{L}\p{N}\p{P}\p{S}"
_UNSEEN = r"\u{115f}\u{1160}\u{3164}\u{ffa0}\u{fffd}"


def _one_of(some: str, but: str = "") -> str:
    return rf"[[{some}]&&\p{{age:14.0}}--[{_UNSEEN}{but}]]"


_CHAR = _one_of(_SEEN + " ")
_TEXT = _one_of(_SEEN) + _CHAR + "*"
# The first question mark ends a question.
_QUESTION = _one_of(r"\p{L}\p{N}") + _one_of(_SEEN + " ", but="?") + r"*\?"
# Nothing that is read as bold, quoted, fenced or JSON, and at the start of a reply no other field.
_LINE = _one_of(_SEEN, but=r'*"“`{\[') + _CHAR + "*"
_FIELD = (
    "(?i:question|answer|long[ _]answer|reason|conclusion|change|into|find|replace|edits)"
    "[ *#_-]*:.*"
)

_TERMINALS = rf"""
QUESTION: /{_QUESTION}/ & ~/{_FIELD}/
OPENING: /{_LINE}/ & ~/{_FIELD}/
LINE: /{_LINE}/
ANSWER: {" | ".join(json.dumps(answer) for answer in ANSWERS)}
BLANKS: /[ \n]*/
"""

# What follows a completion prompt, which ends in the name of the first field and a colon. Models
# end a reply with a line break or two; those change nothing.
_COMPLETIONS = {
    "rewrite": r"QUESTION",
    "new": r'QUESTION "\nAnswer: " ANSWER "\nReason: " LINE',
    "counterfactual": r'OPENING "\nInto: " LINE "\nAnswer: " ANSWER "\nReason: " LINE',
    "pseudo-label": r'ANSWER "\nReason: " LINE',
    "answer": r"ANSWER",
}

_JSON = {"whitespace_pattern": r"[ \n]?", "json_allowed_escapes": '"\\'}


@cache
def grammar_for(strategy: str, style: Style) -> str:
    """Return the grammar of a strategy's replies, in the Lark dialect of llguidance.

    Replies to a chat prompt are JSON after the strategy's schema, others lines of fields.
    """
    if style == "chat":
        schema = _readable(response_format(strategy)["json_schema"]["schema"])
        return f"start: %json {json.dumps(schema | {'x-guidance': _JSON})}"
    return f'start: " "? {_COMPLETIONS[strategy]} BLANKS{_TERMINALS}'


def _readable(schema: dict[str, Any], name: str = "") -> dict[str, Any]:
    """Narrow a schema to what can be read: by itself it allows empty lists and empty strings."""
    held = dict(schema)
    if schema["type"] == "string" and "enum" not in schema:
        held["pattern"] = f"^{_QUESTION if name == 'question' else _TEXT}$"
    elif schema["type"] == "array":
        held |= {"items": _readable(schema["items"]), "minItems": 1}
    elif schema["type"] == "object":
        held["properties"] = {k: _readable(v, k) for k, v in schema["properties"].items()}
    return held
