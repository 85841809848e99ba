from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medslm.errors import CredentialsError, DataError, LeakageError, ParamsError
from medslm.files import sha256_of
from medslm.teacher.asking import Plan
from medslm.teacher.settings import load_answers, load_ask, load_plan, load_teacher
from medslm.teacher.store import open_store
from tests.factories import question
from tests.teacher.asked import ASK, answers_of
from tests.teacher.asked import OPENAI as MOST

OPENAI: dict[str, Any] = {**MOST, "structured": True}


def plan(folder: Path, *, ask: dict[str, Any] | None = None, **teachers: Any) -> Plan:
    recording = folder / "recorded.jsonl"
    recording.write_text(
        json.dumps({"pmid": "1", "strategy": "rewrite", "index": 0, "reply": "Is it?"}) + "\n"
    )
    recorded = {
        "backend": "recorded",
        "path": str(recording),
        "sha256": sha256_of(recording),
        "max_failed_share": 0,
    }
    params = folder / "params.yaml"
    sections = {"api": OPENAI, "recorded": recorded, **teachers}
    params.write_text(
        yaml.safe_dump({"asks": {"mine": {**ASK, **(ask or {})}}, "teachers": sections})
    )
    return load_plan(params, "mine", [question("1")], environ={})


def test_an_api_is_asked_by_chat_and_needs_no_key_before_there_is_work(tmp_path):
    made = plan(tmp_path)

    assert made.teacher_name == "api"
    assert [r.prompt for r in made.requests] == ["rewrite/chat-v1"]
    assert made.requests[0].sampling.temperature == 0.7
    with pytest.raises(CredentialsError, match="THE_KEY"):
        answers_of(made.teacher, made.requests)


def test_a_recording_is_asked_without_a_prompt(tmp_path):
    made = plan(tmp_path, ask={"teacher": "recorded"})

    (reply,) = answers_of(made.teacher, made.requests)

    assert (made.requests[0].prompt, made.requests[0].messages) == ("recorded", ())
    assert reply.content == "Is it?"


@pytest.mark.parametrize(
    "change",
    [{"base_url": "http://127.0.0.1:9/v2"}, {"structured": False}, {"model": "other"}],
)
def test_what_the_endpoint_is_changes_the_keys(tmp_path, change):
    before = plan(tmp_path).requests[0].key

    assert plan(tmp_path, api={**OPENAI, **change}).requests[0].key != before


@pytest.mark.parametrize(
    "change",
    [
        {"concurrency": 9},
        {"attempts": 9},
        {"timeout_s": 9},
        {"max_failed_share": 1},
        {"key_env": None},
        {"mode": "batch"},
        {"price": {"input": 1, "cached": 1, "output": 1}, "max_usd": 1.0},
        {"rpm": 100, "tpm": 1000},
        {"accept_models": ["n"]},
    ],
)
def test_how_an_endpoint_is_asked_changes_no_key(tmp_path, change):
    before = plan(tmp_path).requests[0].key

    assert plan(tmp_path, api={**OPENAI, **change}).requests[0].key == before


@pytest.mark.parametrize(
    ("ask", "api", "complaint"),
    [
        ({"teacher": "nobody"}, {}, r"teachers\.nobody: there is no such entry .*api, recorded"),
        (
            {"strategy": "translate"},
            {},
            r"asks\.mine\.strategy: .*'rewrite', 'new', 'counterfactual' or 'pseudo-label'.*'translate'",
        ),
        ({"prompt": "v77"}, {}, r"no prompt rewrite/chat-v77"),
        ({"per_question": 0}, {}, r"asks\.mine\.per_question"),
        ({"surprise": 1}, {}, r"asks\.mine\.surprise: Extra inputs"),
        ({}, {"backend": "carrier-pigeon"}, r"teachers\.api.*'carrier-pigeon'"),
        ({}, {"temprature": 1}, r"teachers\.api\.temprature: Extra inputs"),
        ({}, {"temperature": float("nan")}, r"temperature"),
        ({}, {"base_url": "ftp://host"}, r"base_url"),
        ({}, {"base_url": "http://me:word@host"}, r"base_url: must hold no user, password"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, ask, api, complaint):
    with pytest.raises(ParamsError, match=complaint):
        plan(tmp_path, ask=ask, api={**OPENAI, **api})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"price": "listed"}, r"teachers\.api\.price: listed: .*127\.0\.0\.1.*another server"),
        (
            {"price": "listed", "base_url": None, "model": "gpt-99"},
            r"gpt-99 is not in the price list",
        ),
        ({"price": {"input": 1, "cached": 1, "output": 1}}, r"teachers\.api\.max_usd: null"),
    ],
)
def test_nothing_is_sent_at_a_price_nobody_knows_or_without_a_cap(tmp_path, change, complaint):
    made = plan(tmp_path, api={**OPENAI, "key_env": None, **change})

    with open_store(tmp_path / "j") as store, pytest.raises(ParamsError, match=complaint):
        list(made.teacher.answer(made.requests, store))


def test_a_teachers_own_answers_follow_worked_examples(tmp_path):
    plan(tmp_path)
    params = tmp_path / "params.yaml"
    sections = yaml.safe_load(params.read_text())
    entry = {"teacher": "api", "shots": 2, "prompt": "v1", "seed": 0}
    params.write_text(yaml.safe_dump({**sections, "answers": {"api-2-shot": entry}}))
    examples = [question(str(n)) for n in range(10, 14)]

    made = load_answers(params, "api-2-shot", [question("1"), question("2")], examples, environ={})

    assert [(r.pmid, r.strategy, r.prompt) for r in made.requests] == [
        ("1", "answer", "answer/chat-v1"),
        ("2", "answer", "answer/chat-v1"),
    ]
    roles = [message.role for message in made.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    with pytest.raises(LeakageError):
        load_answers(params, "api-2-shot", [question("10")], examples, environ={})


def test_yes_and_no_are_answers_and_no_booleans_with_or_without_quotes(tmp_path):
    plan(tmp_path)
    params = tmp_path / "params.yaml"
    shares = "{yes: 0.5, no: 0.25, maybe: 0.25}"
    params.write_text(params.read_text().replace("answers: null", f"answers: {shares}"))

    assert load_ask(params, "mine").answers == {"yes": 0.5, "no": 0.25, "maybe": 0.25}

    params.write_text(params.read_text().replace("maybe: 0.25", "perhaps: 0.25"))
    with pytest.raises(ParamsError, match=r"answers\.perhaps"):
        load_ask(params, "mine")


def test_a_teachers_section_is_read_by_its_backend(tmp_path):
    plan(tmp_path)

    found = load_teacher(tmp_path / "params.yaml", "api")

    assert (found.backend, found.max_failed_share) == ("openai", 0.1)


def test_an_unknown_ask_is_named_with_the_known_ones(tmp_path):
    plan(tmp_path)

    with pytest.raises(
        ParamsError, match=r"asks\.yours: there is no such entry \(there are: mine\)"
    ):
        load_plan(tmp_path / "params.yaml", "yours", [question()], environ={})


def test_a_recording_that_is_not_there_is_named(tmp_path):
    missing = {
        "backend": "recorded",
        "path": str(tmp_path / "gone"),
        "sha256": "0" * 64,
        "max_failed_share": 0,
    }

    with pytest.raises(DataError, match="gone: no such file"):
        plan(tmp_path, ask={"teacher": "gone"}, gone=missing)
