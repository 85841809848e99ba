from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from medslm.errors import CredentialsError, DataError, ParamsError
from medslm.files import sha256_of
from medslm.teacher.settings import Plan, load_plan
from tests.factories import question

OPENAI: dict[str, Any] = {
    "backend": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "key_env": "THE_KEY",
    "model": "m",
    "temperature": 0.7,
    "top_p": None,
    "max_tokens": 80,
    "structured": True,
    "concurrency": 2,
    "timeout_s": 5,
    "attempts": 2,
    "backoff_s": 0,
    "max_wait_s": 1,
    "max_failed_share": 0.1,
}
ASK: dict[str, Any] = {
    "teacher": "api",
    "strategy": "rewrite",
    "prompt": "v1",
    "per_question": 1,
    "seed": 0,
}


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
        list(made.teacher.answer(made.requests))


def test_a_recording_is_asked_without_a_prompt(tmp_path):
    made = plan(tmp_path, ask={"teacher": "recorded"})

    (reply,) = made.teacher.answer(made.requests)

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
    ],
)
def test_how_an_endpoint_is_asked_changes_no_key(tmp_path, change):
    before = plan(tmp_path).requests[0].key

    assert plan(tmp_path, api={**OPENAI, **change}).requests[0].key == before


@pytest.mark.parametrize(
    ("ask", "api", "complaint"),
    [
        ({"teacher": "nobody"}, {}, r"teachers\.nobody: there is no such entry .*api, recorded"),
        ({"strategy": "translate"}, {}, r"asks\.mine\.strategy: .*'rewrite' or 'new'.*'translate'"),
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
