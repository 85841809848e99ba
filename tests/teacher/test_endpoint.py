from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from medslm.errors import (
    CredentialsError,
    MedslmError,
    MoneyError,
    ParamsError,
    TeacherDown,
    TooManyFailures,
)
from medslm.teacher.endpoint import Endpoint, OpenAIParams, checked_url
from medslm.teacher.requests import Request
from medslm.teacher.store import open_store
from medslm.teacher.wire import read_key
from tests.factories import question
from tests.teacher.asked import OPENAI, requests
from tests.teacher.fake_batch import answered, serving_batches, unfinished
from tests.teacher.fake_endpoint import Answer, FakeEndpoint, Received, echo, fails, says

KEY = "sk-canary-0123456789"


def teacher(endpoint: FakeEndpoint, **overrides: Any) -> Endpoint:
    environ = overrides.pop("environ", {"THE_KEY": KEY})
    known = {**OPENAI, "base_url": endpoint.url}
    return Endpoint(OpenAIParams(**{**known, **overrides}), "api", environ)


def asked(count: int = 1) -> list[Request]:
    return requests([question(str(n)) for n in range(1, count + 1)], per_question=1, top_p=None)


def test_a_request_says_all_that_its_key_promises_and_nothing_else(endpoint, answers):
    (request,) = asked()

    (reply,) = answers(teacher(endpoint), [request])

    (received,) = endpoint.requests
    assert received.body == {
        "model": "m",
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "seed": request.sampling.seed,
        "temperature": 0.7,
        "max_tokens": 80,
    }
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["user-agent"].startswith("OpenAI/Python ")
    assert received.headers["content-type"] == "application/json"
    assert (reply.key, reply.finish_reason, reply.served_model) == (
        request.key,
        "stop",
        "m",
    )
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        ("rewrite", ["question", "long_answer"]),
        ("new", ["question", "answer", "long_answer"]),
    ],
)
def test_structured_replies_are_held_to_the_strategys_fields(endpoint, strategy, fields, answers):
    held = teacher(endpoint, structured=True)

    answers(held, requests([question()], per_question=1, strategy=strategy))

    schema = endpoint.requests[0].body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == fields
    assert held.identity(strategy) != teacher(endpoint).identity(strategy)


def test_A27_the_sdks_environment_changes_nothing(endpoint, tmp_path):
    code = (
        "import sys, tests.teacher.test_endpoint as t\n"
        "from pathlib import Path\n"
        "from medslm.teacher.store import open_store\n"
        "from types import SimpleNamespace\n"
        "e = t.teacher(SimpleNamespace(url=sys.argv[1]))\n"
        "with open_store(Path(sys.argv[2])) as s:\n"
        "    print([r.finish_reason for g in e.answer(t.asked(), s) for r in g])\n"
    )
    hostile = {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_KEY": "sk-other",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "OPENAI_ORG_ID": "org-1",
        "OPENAI_PROJECT_ID": "proj-1",
        "OPENAI_CUSTOM_HEADERS": "X-Spy: 1\nAuthorization: Bearer sk-spy",
        "OPENAI_LOG": "debug",
    }

    done = subprocess.run(
        [sys.executable, "-c", code, endpoint.url, str(tmp_path)],
        env={**os.environ, **hostile},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "['stop']\n", done.stderr
    assert done.stderr == ""
    headers = endpoint.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not {"x-spy", "openai-organization", "openai-project"} & set(headers)


def test_an_endpoint_without_keys_gets_none(endpoint, answers):
    answers(teacher(endpoint, key_env=None, environ={"OPENAI_API_KEY": KEY}), asked())

    assert "authorization" not in endpoint.requests[0].headers


@pytest.mark.parametrize("value", [None, "", "  \n", "sk-ü", "sk a", "sk-a\nsk-b", "sk-\x00"])
def test_a_missing_or_unsendable_key_stops_before_anything_is_sent(endpoint, value, answers):
    environ = {} if value is None else {"THE_KEY": value}

    with pytest.raises(CredentialsError, match="THE_KEY") as caught:
        answers(teacher(endpoint, environ=environ), asked())

    assert endpoint.requests == []
    assert not value or not value.strip() or value not in str(caught.value)


def test_space_around_a_key_is_dropped():
    assert read_key({"K": f" {KEY}\n"}, "K", "api") == KEY


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (fails(401), CredentialsError),
        (fails(403), CredentialsError),
        (fails(404, code="model_not_found"), CredentialsError),
        (fails(429, code="insufficient_quota"), MoneyError),
        (fails(429, kind="insufficient_quota"), MoneyError),
        (fails(402), MoneyError),
        (Answer(307, b"", {"location": "http://127.0.0.1:9/v1"}), ParamsError),
        (Answer(200, b'{"error": {"code": "insufficient_quota"}}'), MoneyError),
        (Answer(200, b'{"error": {"code": "invalid_api_key"}}'), CredentialsError),
    ],
)
def test_what_waiting_cannot_cure_stops_everything_after_one_request(
    endpoint, answer, error, answers
):
    endpoint.will(answer)

    with pytest.raises(error):
        answers(teacher(endpoint), asked(5))
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        fails(429),
        fails(500),
        fails(503),
        fails(408),
        fails(409),
        Answer(502, b"<html>bad gateway</html>", {"content-type": "text/html"}),
        Answer(200, b"<html>please log in</html>", {"content-type": "text/html"}),
        Answer(200, b"  <!doctype html>"),
        Answer(200, b'{"error": {"message": "overloaded"}}'),
        Answer(hang_up=True),
        Answer(200, b'{"choices": [{"mess'),
    ],
    ids=lambda a: f"{a.status} {a.body[:20]!r}",
)
def test_what_may_pass_is_tried_again(endpoint, answer, answers):
    endpoint.will(answer, answer, says("fine"))

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.content, len(endpoint.requests)) == ("fine", 3)


@pytest.mark.parametrize("answer", [fails(500), Answer(hang_up=True)])
def test_attempts_are_bounded_and_the_next_request_is_not_sent(endpoint, answer, answers):
    endpoint.respond = lambda *_: answer

    with pytest.raises(TeacherDown, match="PMID 1 in 4 attempts"):
        answers(teacher(endpoint), asked(3))
    assert len(endpoint.requests) == 4


def test_an_endpoint_that_refuses_everybody_for_its_rate_is_left(endpoint, answers):
    endpoint.respond = lambda *_: fails(429)

    with pytest.raises(TeacherDown, match="was refused for its rate"):
        answers(teacher(endpoint, max_wait_s=1.0), asked(3))
    assert 2 <= len(endpoint.requests) < 12


def test_a_server_that_is_not_there_is_down(answers):
    class Nowhere:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(TeacherDown, match="ConnectError"):
        answers(teacher(Nowhere(), attempts=2), asked())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fails(400), "rejected"),
        (fails(422), "rejected"),
        (Answer(400, b'{"error": {"code": [5], "type": {"odd": 1}, "message": null}}'), "rejected"),
        (Answer(400, b'["odd"]'), "rejected"),
        (fails(400, code="content_filter"), "content_filter"),
        (says(None, finish_reason="content_filter"), "content_filter"),
        (says(None, refusal="no"), "refusal"),
    ],
)
def test_a_request_that_fails_for_good_costs_one_row_and_one_request(
    endpoint, answer, reason, answers
):
    endpoint.respond = lambda request, n: answer if n == 0 else echo(request)

    replies = answers(teacher(endpoint), asked(3))

    assert [r.finish_reason for r in replies] == [reason, "stop", "stop"]
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"choices": []}', b"x" * 300_000])
def test_a_body_that_stays_unreadable_is_invalid_after_two_retries(endpoint, body, answers):
    endpoint.respond = lambda *_: Answer(200, body)

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.content, reply.finish_reason, len(endpoint.requests)) == (None, "invalid", 3)


def test_twenty_rejections_in_a_row_are_our_mistake(endpoint, until_error):
    endpoint.respond = lambda *_: fails(400)

    seen, error = until_error(teacher(endpoint), asked(30))

    assert isinstance(error, TooManyFailures)
    assert len(seen) == len(endpoint.requests) == 20


def test_a_wait_longer_than_allowed_stops_at_once(endpoint, answers):
    endpoint.will(fails(429, retry_after="3600"))

    with pytest.raises(TeacherDown, match="wait 3600 s"):
        answers(teacher(endpoint), asked())


@pytest.mark.parametrize("slow", [{"drip_s": 0.05}, {"delay_s": 3.0}])
def test_a_slow_answer_ends_at_the_deadline(endpoint, slow, answers):
    slow_answer = Answer(200, says("x").body, **slow)  # ten seconds and twice three without one
    endpoint.respond = lambda *_: slow_answer
    started = time.monotonic()

    with pytest.raises(TeacherDown, match=r"within 0\.4 s"):
        answers(teacher(endpoint, timeout_s=0.4, attempts=2), asked())

    assert time.monotonic() - started < 5


def test_replies_in_flight_when_another_fails_are_still_yielded(endpoint, until_error):
    all_there = threading.Barrier(4)  # however slow the machine: nothing is answered before

    def respond(request: Received, before: int) -> Answer:
        all_there.wait(timeout=20)
        if '"Does treatment 1 ' in request.text:
            return fails(401)
        answer = echo(request)
        answer.delay_s = 0.3
        return answer

    endpoint.respond = respond

    seen, error = until_error(teacher(endpoint, concurrency=4), asked(20))

    assert isinstance(error, CredentialsError)
    assert len(seen) == len(endpoint.requests) - 1 == 3


def test_no_more_requests_than_allowed_are_in_flight(endpoint, answers):
    all_there = threading.Barrier(3)  # however slow the machine: nothing is answered before
    most = []
    active = [0]

    def respond(request: Received, before: int) -> Answer:
        with endpoint.lock:
            active[0] += 1
            most.append(active[0])
        all_there.wait(timeout=20)
        time.sleep(0.02)  # a fourth would come meanwhile
        with endpoint.lock:
            active[0] -= 1
        return echo(request)

    endpoint.respond = respond
    answers(teacher(endpoint, concurrency=3), asked(15))

    assert max(most) == 3


@pytest.mark.parametrize("answer", [
    Answer(401, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()),
    Answer(500, json.dumps({"error": {"message": f"no {KEY}"}}).encode()),
    Answer(200, json.dumps({"error": {"message": f"no {KEY}"}}).encode()),
])  # fmt: skip
def test_the_key_is_never_in_an_error(endpoint, answer, answers):
    endpoint.respond = lambda *_: answer

    with pytest.raises(MedslmError) as caught:
        answers(teacher(endpoint, attempts=2), asked())

    assert KEY not in str(caught.value)
    assert "[key]" in str(caught.value)


def test_the_key_is_never_in_a_reply(endpoint, answers):
    endpoint.respond = lambda request, _: says(f"You sent {request.headers['authorization']}")

    (reply,) = answers(teacher(endpoint), asked())

    assert reply.content == "You sent Bearer [key]"


@pytest.mark.parametrize("key", ["k", "x", "none", "EMPTY"])
def test_the_dummy_key_of_a_local_server_is_no_secret_and_changes_no_body(endpoint, answers, key):
    endpoint.respond = lambda *_: says("a kind x, none EMPTY")

    (reply,) = answers(teacher(endpoint, environ={"THE_KEY": key}), asked())

    assert reply.content == "a kind x, none EMPTY"
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.mark.parametrize(
    "url", ["http://me:pass@host/v1", "https://host/v1?api_key=secret", "http://host/v1#secret"]
)
def test_an_address_that_may_hold_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(ParamsError, match=r"teachers\.api\.base_url") as caught:
        checked_url(url, "api")

    assert "pass" not in str(caught.value).replace("password", "")
    assert "secret" not in str(caught.value)


def test_a_trailing_slash_is_the_same_address():
    assert checked_url("http://host/v1/", "api") == checked_url("http://host/v1", "api")
    assert checked_url("http://host/v2", "api") != checked_url("http://host/v1", "api")


def test_a_batch_gives_the_replies_that_sync_gives_under_the_same_keys(tmp_path):
    with serving_batches() as server:
        found = []
        for mode in ("batch", "sync"):
            with open_store(tmp_path / mode) as store:
                asker = teacher(server, mode=mode, batch_wait_s=20)
                groups = list(asker.answer(asked(6), store))
            found.append({r.key: r.content for group in groups for r in group})

    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert server.sizes() == [6]
    assert set(server.paid.values()) == {2}  # once in each mode, each with a journal of its own


def test_a_batch_that_was_left_is_finished_in_sync_and_nothing_is_paid_for_twice(tmp_path, answers):
    priced = {"price": {"input": 1, "cached": 1, "output": 1}, "max_usd": 1.0}
    with serving_batches() as server:
        server.polls = 1000
        with pytest.raises(TeacherDown, match="run again later"):
            answers(teacher(server, mode="batch", **priced), asked(8))
        (batch,) = server.left
        server.left[batch] = 1
        done = {line["custom_id"] for line in server.lines(batch)[::2]}
        server.answer = lambda line: (
            answered(line) if line["custom_id"] in done else unfinished(line, "batch_cancelled")
        )

        replies = answers(teacher(server, mode="sync", batch_wait_s=30, **priced), asked(8))

    assert {r.finish_reason for r in replies} == {"stop"}
    assert len({r.key for r in replies}) == 8
    assert set(server.paid.values()) == {1}
    assert server.calls.count("POST /chat/completions") == 4
    with open_store(tmp_path / "journal") as store:
        account = store.account([r.key for r in replies])
    assert (account.lost, account.lost_micros) == (0, 0)
    assert account.micros == 8 * 10  # 7 + 3 tokens each, at a dollar a million
