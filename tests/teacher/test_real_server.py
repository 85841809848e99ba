"""A server that others wrote, `transformers serve` with a tiny random model, answers our endpoint."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medslm.errors import MedslmError
from medslm.teacher.asking import ask
from medslm.teacher.endpoint import Endpoint, OpenAIParams
from medslm.teacher.requests import Request
from medslm.teacher.store import open_store
from tests.factories import question
from tests.teacher.test_requests import requests
from tests.tiny import give_chat_template, make_tiny_llama

pytestmark = pytest.mark.slow

START_S = 120.0
_ADDRESS = re.compile(r"running on (http://127\.0\.0\.1:[0-9]+)")


class Server(NamedTuple):
    url: str
    model: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the server on a port that the system chooses; its log says which."""
    folder = tmp_path_factory.mktemp("serve")
    model = str(give_chat_template(make_tiny_llama(folder / "tiny")))
    # It lists the models of its cache, and fails to where there is no cache.
    (folder / "home" / "hub").mkdir(parents=True)
    environ = {
        **os.environ,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0", "--device", "cpu"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(f"{_address(process, log)}/v1", model)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := _ADDRESS.search(log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"transformers serve did not start:\n{log.read_text(errors='replace')}")


def teacher(server: Server, **overrides: Any) -> Endpoint:
    known: dict[str, Any] = {
        "backend": "openai",
        "base_url": server.url,
        "key_env": None,
        "model": server.model,
        "accept_models": [f"{server.model}@main"],  # it adds the revision
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 6,
        "structured": False,
        "mode": "sync",
        "batch_wait_s": 0,
        "price": "free",
        "max_usd": None,
        "concurrency": 4,
        "rpm": None,
        "tpm": None,
        "timeout_s": 60.0,
        "attempts": 3,
        "backoff_s": 0.1,
        "max_wait_s": 5.0,
        "max_failed_share": 1.0,
    }
    return Endpoint(OpenAIParams(**{**known, **overrides}), "served", {})


def wanted(server: Server, count: int = 6) -> list[Request]:
    studies = [question(str(n)) for n in range(1, count + 1)]
    return requests(studies, model=server.model, per_question=2, max_tokens=6)


def test_every_request_gets_a_reply_that_is_stored_and_never_asked_again(server, tmp_path):
    made = wanted(server)
    how = {"teacher_name": "served", "max_failed_share": 1.0}

    with open_store(tmp_path / "replies") as store:
        first = ask(made, store=store, teacher=teacher(server), **how)
        replies = [store[request.key] for request in made]
        spent = store.spent_micros()
    with open_store(tmp_path / "replies") as store:
        second = ask(made, store=store, teacher=teacher(server), **how)
        again = [store[request.key] for request in made]

    assert (first.asked, first.reused) == (len(made), 0) == (12, 0)
    assert (second.asked, second.reused) == (0, len(made))
    assert again == replies
    assert spent == 0
    for reply in replies:
        assert reply.finish_reason in {"stop", "length"}  # a random model rarely ends by itself
        assert reply.content
        assert reply.served_model == f"{server.model}@main"
        assert reply.usage is not None
        assert reply.usage["prompt_tokens"] > 100
        # A cut reply was asked for once more, twice as long.
        assert 1 <= reply.usage["completion_tokens"] <= 12


def test_another_models_name_is_not_accepted_unless_named(server, tmp_path):
    (request, *_) = wanted(server, count=1)

    with open_store(tmp_path / "replies") as store, pytest.raises(MedslmError, match="@main"):
        list(teacher(server, accept_models=[]).answer([request], store))


def test_a_request_that_the_server_refuses_fails_alone_and_by_name(server, tmp_path):
    (good, bad) = wanted(server, count=1)
    bad = dataclasses.replace(bad, key="0" * 64, model="another")  # the server has but one

    with open_store(tmp_path / "replies") as store:
        replies = {r.key: r for group in teacher(server).answer([bad, good], store) for r in group}

    assert (replies[bad.key].content, replies[bad.key].finish_reason) == (None, "rejected")
    assert replies[good.key].finish_reason in {"stop", "length"}


def test_a_schema_that_the_server_ignores_does_no_harm(server, tmp_path):
    (request, *_) = wanted(server, count=1)

    with open_store(tmp_path / "replies") as store:
        (group,) = teacher(server, structured=True).answer([request], store)

    (reply,) = group
    assert reply.finish_reason in {"stop", "length"}
