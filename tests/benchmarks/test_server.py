"""The benchmark's server: if it cannot count, every figure in the table is worth nothing."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from benchmarks.server import Limiter
from benchmarks.watch import Server
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def ask(server: Server, text: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    try:
        body = {"model": "m-1", "messages": [{"role": "user", "content": text}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, json.loads(answer.read())
    finally:
        connection.close()


def test_a_prompt_paid_twice_is_counted_and_one_paid_once_is_not(server):
    server.reset()
    for text in ("one", "two", "one", "one"):
        assert ask(server, text)[0] == 200

    stats = server.stats()

    assert (stats["prompts"], stats["billed"], stats["re_billed"]) == (2, 4, 2)


def test_a_reply_is_a_whole_completion_of_the_model_that_was_asked(server):
    server.reset()

    _, _, reply = ask(server, "anything")

    assert reply["model"] == "m-1"
    assert set(json.loads(reply["choices"][0]["message"]["content"])) == {
        "question",
        "answer",
        "long_answer",
    }
    assert reply["usage"]["total_tokens"] == 440


def test_no_two_replies_are_alike_even_after_a_mark_and_a_reset(server):
    server.reset()
    said = [ask(server, "same")[2]]
    server.mark()
    said.append(ask(server, "same")[2])
    server.reset()
    said.append(ask(server, "same")[2])

    assert len({reply["choices"][0]["message"]["content"] for reply in said}) == 3


def test_a_mark_forgets_times_but_no_bill(server):
    server.reset()
    ask(server, "one")
    server.mark()
    before = server.stats()
    ask(server, "one")
    after = server.stats()

    assert (before["requests"], before["first_at"], before["prompts"]) == (0, None, 1)
    assert (after["requests"], after["repeated"], after["re_billed"]) == (1, 1, 1)


def test_the_poisoned_prompt_alone_is_rejected_and_costs_nothing(server):
    server.reset(poison="venom")

    assert [ask(server, text)[0] for text in ("venom", "water", "venom")] == [400, 200, 400]
    assert server.stats()["statuses"] == {"200": 1, "400": 2}
    assert server.stats()["billed"] == 1


def test_random_refusals_have_their_share_and_follow_the_seed(server):
    def draw(seed: int) -> list[int]:
        server.reset(refuse_share=0.2, seed=seed)
        return [ask(server, str(n))[0] for n in range(200)]

    first, again, other = draw(1), draw(1), draw(2)

    assert first == again != other
    assert 20 <= first.count(429) <= 60  # 40 expected, standard deviation 5.7


@pytest.mark.parametrize(("manner", "says"), [("right", "60"), ("understated", "1")])
def test_the_limit_refuses_what_is_above_it_and_says_so_rightly_or_not(server, manner, says):
    server.reset(rpm=3, retry_after=manner, headers=True)

    answers = [ask(server, str(n)) for n in range(5)]

    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
    assert [h.get("retry-after") for _, h, _ in answers] == [None, None, None, says, says]
    assert answers[0][1]["x-ratelimit-limit-requests"] == "3"
    assert [h["x-ratelimit-remaining-requests"] for _, h, _ in answers] == ["2", "1", "0", "0", "0"]
    assert server.stats()["billed"] == 3


def test_without_a_word_about_limits_there_is_no_header(server):
    server.reset(rpm=1, retry_after="none")
    ask(server, "one")

    status, headers, body = ask(server, "two")

    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert not {"retry-after", "x-ratelimit-limit-requests"} & set(headers)


def test_a_place_is_free_again_after_the_window(server):
    server.reset(rpm=1, window_s=0.2)
    assert [ask(server, "a")[0], ask(server, "b")[0]] == [200, 429]

    time.sleep(0.25)

    assert ask(server, "b")[0] == 200


@given(
    limit=st.integers(1, 5),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
)
def test_no_window_ever_holds_more_than_the_limit(limit, gaps):
    limiter = Limiter(limit, 60.0)
    now, accepted = 0.0, []
    for gap in gaps:
        now += gap
        wait = limiter.free_in(now)
        if wait <= 0:
            limiter.accept(now)
            accepted.append(now)
        else:
            assert limiter.free_in(now + wait + 1e-6) <= 0  # what Retry-After promises

    for start in accepted:
        assert sum(start <= t < start + 60.0 for t in accepted) <= limit


def test_requests_wait_side_by_side(server):
    server.reset(latency_s=0.3)
    with ThreadPoolExecutor(16) as pool:
        statuses = [status for status, _, _ in pool.map(lambda n: ask(server, str(n)), range(16))]

    stats = server.stats()

    assert statuses == [200] * 16
    assert stats["max_in_flight"] > 8
    assert 0.3 <= stats["last_at"] - stats["first_at"] < 2.0


def test_a_client_that_hangs_up_pays_all_the_same(server):
    server.reset(latency_s=0.2)
    host, port = urlsplit(server.url).netloc.split(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "gone"}]}).encode()
    with socket.create_connection((host, int(port)), timeout=5) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert server.until(lambda stats: stats["in_flight"] == 1, 5)
    assert server.until(lambda stats: stats["in_flight"] == 0, 5)

    stats = server.stats()

    assert (stats["billed"], stats["unheard"]) == (1, 1)


def test_a_request_in_pieces_and_two_in_one_piece_are_understood(server):
    server.reset()
    host, port = urlsplit(server.url).netloc.split(":")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(head[:20])
        client.sendall(head[20:] + body[:5])
        client.sendall(body[5:] + head + body)
        assert server.until(lambda stats: stats["billed"] == 2, 5)

    assert server.stats()["re_billed"] == 1


def test_models_are_listed(server):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request("GET", "/v1/models")

    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "bench-model"
    connection.close()
