"""The JSON schema of a reply, for endpoints that can be held to one."""

from __future__ import annotations

from typing import Any

from medslm.data.records import ANSWERS

_TEXT = {"type": "string"}
_ANSWER = {"type": "string", "enum": list(ANSWERS)}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Strict mode wants every property required and no others (OpenAI, structured outputs guide)."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# A reply is written in the order of its properties: a pseudo-label gives its reason first.
_PROPERTIES: dict[str, dict[str, Any]] = {
    "rewrite": {"question": _TEXT, "long_answer": _TEXT},
    "new": {"question": _TEXT, "answer": _ANSWER, "long_answer": _TEXT},
    "counterfactual": {
        "edits": {"type": "array", "items": _object({"find": _TEXT, "replace": _TEXT})},
        "answer": _ANSWER,
        "long_answer": _TEXT,
    },
    "pseudo-label": {"long_answer": _TEXT, "answer": _ANSWER},
    "answer": {"answer": _ANSWER},
}


def response_format(strategy: str) -> dict[str, Any]:
    """Return the `response_format` that holds a reply to exactly a strategy's fields."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": f"{strategy}_reply",
            "strict": True,
            "schema": _object(_PROPERTIES[strategy]),
        },
    }
