from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medslm.data.records import Passage
from medslm.errors import ParamsError
from medslm.teacher.local import Local
from medslm.teacher.prompts import load_prompt
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request
from tests.factories import question
from tests.teacher.test_requests import requests
from tests.tiny import give_chat_template, make_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return give_chat_template(make_tiny_llama(tmp_path_factory.mktemp("chatty")))


def local(folder: Path, **overrides: Any) -> Local:
    known: dict[str, Any] = {
        "revision": None,
        "dtype": "float32",
        "batch_size": 4,
        "style": "completion",
        "constrained": False,
    }
    return Local(str(folder), **{**known, **overrides})


def replies(teacher: Local, wanted: list[Request]) -> list[Reply]:
    # No journal: whatever runs in this process costs nothing.
    return [reply for group in teacher.answer(wanted, None) for reply in group]  # type: ignore[arg-type]


def asked(**overrides: Any) -> list[Request]:
    studies = [
        question(str(n), sections=(Passage("RESULTS", "It was so. " * n),)) for n in (1, 4, 2, 7)
    ]
    known = {
        "prompt": load_prompt("new", "completion", "v1"),
        "strategy": "new",
        "temperature": 1.0,
        "max_tokens": 12,
    }
    return requests(studies, **{**known, **overrides})


def contents(teacher: Local, wanted: list[Request]) -> dict[str, tuple[Any, ...]]:
    return {
        r.key: (r.content, r.finish_reason, str(r.usage), r.served_model)
        for r in replies(teacher, wanted)
    }


@pytest.mark.parametrize("constrained", [False, True])
def test_neither_batch_size_nor_company_changes_a_reply(folder, constrained):
    wanted = asked()

    def by(batch_size: int, some: list[Request]) -> dict[str, tuple[Any, ...]]:
        return contents(local(folder, batch_size=batch_size, constrained=constrained), some)

    one = by(1, wanted)

    assert one == by(4, wanted) == by(16, wanted[::-1])
    assert by(4, wanted[3:5]) == {r.key: one[r.key] for r in wanted[3:5]}
    assert len({content for content, *_ in one.values()}) == len(wanted) == 8


def test_replies_come_in_groups_of_a_batch(folder):
    groups = list(local(folder, batch_size=3).answer(asked(), None))  # type: ignore[arg-type]

    assert [len(group) for group in groups] == [3, 3, 2]


def test_another_seed_or_temperature_gives_other_replies(folder):
    texts = [
        [content for content, *_ in contents(local(folder), asked(**change)).values()]
        for change in ({}, {"seed": 1}, {"temperature": 2.0})
    ]

    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


def test_without_temperature_the_seed_changes_nothing(folder):
    cold = [list(contents(local(folder), asked(temperature=0, seed=s)).values()) for s in (0, 1)]

    assert sorted(cold[0]) == sorted(cold[1])


def test_a_prompt_that_does_not_fit_fails_by_name_and_the_others_do_not(folder):
    long, short = asked(max_tokens=2000)[0], asked()[1]

    by_key = {reply.key: reply for reply in replies(local(folder), [long, short])}

    assert (by_key[long.key].content, by_key[long.key].finish_reason) == (None, "prompt_too_long")
    assert by_key[short.key].finish_reason in {"stop", "length"}


def test_the_identity_follows_what_shapes_a_reply_and_not_the_batch(folder, tmp_path):
    other = make_tiny_llama(tmp_path, seed=1)

    def identity(
        model: Path = folder, strategy: str = "new", **overrides: Any
    ) -> dict[str, object]:
        return local(model, **overrides).identity(strategy)

    assert identity(batch_size=1) == identity(batch_size=8)
    assert identity() != identity(other)
    assert identity() != identity(dtype="bfloat16")
    assert identity() == identity(strategy="rewrite")
    held = identity(constrained=True)
    assert held != identity()
    assert held != identity(strategy="rewrite", constrained=True)
    assert held != identity(style="chat", constrained=True)


def answering(style: Any, count: int = 12) -> list[Request]:
    return requests(
        [question(str(n)) for n in range(1, count + 1)],
        prompt=load_prompt("answer", style, "v1"),
        strategy="answer",
        per_question=1,
        temperature=1.0,
        max_tokens=20,
    )


def test_a_constrained_reply_always_fits_and_says_that_it_was_held(folder):
    held = replies(local(folder, constrained=True), answering("completion"))
    free = replies(local(folder), answering("completion"))

    assert {r.content.strip() for r in held} == {"yes", "no", "maybe"}  # type: ignore[union-attr]
    assert {r.finish_reason for r in held} == {"stop"}
    assert all(r.structured for r in held)
    assert not {r.content.strip() for r in free} & {"yes", "no", "maybe"}  # type: ignore[union-attr]
    assert not any(r.structured for r in free)


def test_a_constrained_chat_model_replies_in_json_after_the_schema(chatty):
    held = replies(local(chatty, style="chat", constrained=True), answering("chat"))

    assert {json.loads(r.content or "")["answer"] for r in held} == {"yes", "no", "maybe"}
    assert {tuple(json.loads(r.content or "")) for r in held} == {("answer",)}


def test_a_chat_goes_through_the_models_own_template(chatty):
    (request,) = answering("chat", count=1)

    (chat,) = replies(local(chatty, style="chat"), [request])
    (plain,) = replies(local(chatty), [request])

    # "system: ", "\n", "user: ", "\n" and "assistant:" are more than the one empty line between.
    assert chat.usage is not None
    assert plain.usage is not None
    assert chat.usage["prompt_tokens"] > plain.usage["prompt_tokens"]


def test_a_chat_needs_a_template(folder):
    with pytest.raises(ParamsError, match="style: completion"):
        replies(local(folder, style="chat"), answering("chat", count=1))
