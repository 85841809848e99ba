"""The JSON schema of a reply, for endpoints that can be held to one."""

from __future__ import annotations

from typing import Any

from medslm.data.records import ANSWERS

_TEXT = {"type": "string"}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "rewrite": {"question": _TEXT, "long_answer": _TEXT},
    "new": {
        "question": _TEXT,
        "answer": {"type": "string", "enum": list(ANSWERS)},
        "long_answer": _TEXT,
    },
}


def response_format(strategy: str) -> dict[str, Any]:
    """Return the `response_format` that holds a reply to exactly a strategy's fields.

    Strict mode wants every property required and no others (OpenAI, structured outputs guide).
    """
    properties = _PROPERTIES[strategy]
    return {
        "type": "json_schema",
        "json_schema": {
            "name": f"{strategy}_reply",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }
