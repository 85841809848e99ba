"""Every strategy has a schema in strict mode, and its prompt asks for the same keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from medslm.teacher.prompts import Strategy, load_prompt
from medslm.teacher.schemas import response_format

STRATEGIES = get_args(Strategy)


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if schema["type"] == "object":
        yield schema
        for inner in schema["properties"].values():
            yield from objects(inner)
    if schema["type"] == "array":
        yield from objects(schema["items"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_schema_is_strict_all_the_way_down(strategy):
    form = response_format(strategy)["json_schema"]

    found = list(objects(form["schema"]))

    assert form["strict"] is True
    assert len(found) == (2 if strategy == "counterfactual" else 1)
    for schema in found:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_schema_has_the_keys_that_the_prompt_asks_for_in_their_order(strategy):
    system = load_prompt(strategy, "chat", "v1").parts[0].content

    asked = json.loads(system.split("\n")[-1])

    schema = response_format(strategy)["json_schema"]["schema"]
    assert list(asked) == list(schema["properties"])
    if strategy == "counterfactual":
        edit = schema["properties"]["edits"]["items"]
        assert list(asked["edits"][0]) == list(edit["properties"]) == ["find", "replace"]


def test_names_are_ones_that_an_endpoint_takes_and_differ():
    names = {response_format(strategy)["json_schema"]["name"] for strategy in STRATEGIES}

    assert len(names) == len(STRATEGIES)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)


def test_an_answer_is_one_of_three_wherever_one_is_asked_for():
    answers = [
        response_format(strategy)["json_schema"]["schema"]["properties"].get("answer")
        for strategy in STRATEGIES
        if strategy != "rewrite"
    ]

    assert answers == [{"type": "string", "enum": ["yes", "no", "maybe"]}] * 4
