"""What an endpoint can do to us, row by row.

S01 to S28 are the failure modes of LLM jobs, A01 to A39 the fault table of the design's notes on
reliability; `test_every_row_has_a_test` holds the list.
"""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from medslm.data.records import Exchange
from medslm.errors import (
    CredentialsError,
    MoneyError,
    ParamsError,
    TeacherDown,
    TooManyFailures,
)
from medslm.files import read_jsonl
from medslm.quality.parse import parse_all
from medslm.teacher.asking import Plan, carry_out
from medslm.teacher.prompts import load_prompt
from medslm.teacher.store import open_store
from tests.factories import question
from tests.teacher.asked import requests
from tests.teacher.fake_endpoint import (
    Answer,
    FakeEndpoint,
    Received,
    echo,
    fails,
    ok,
    raw_serving,
    reset,
    says,
    serving,
)
from tests.teacher.test_endpoint import KEY, asked, teacher

NUMBERS = {"S": range(1, 29), "A": [n for n in range(1, 40) if n not in (13, 21, 26)]}


def test_every_row_has_a_test():
    names = "\n".join(
        line
        for file in Path(__file__).parent.glob("test_*.py")
        for line in file.read_text().splitlines()
        if line.startswith("def test_")
    )
    found = set(re.findall(r"(?<=_)[SA][0-9]{2}(?=_)", names))

    assert found == {f"{table}{n:02}" for table, rows in NUMBERS.items() for n in rows}


def first(answer: Answer):
    """Answer the first request so, and all others well."""
    return lambda request, before: answer if before == 0 else echo(request)


def test_S01_A01_nobody_sends_before_retry_after_has_passed(endpoint, answers):
    all_there = threading.Barrier(4)  # however slow the machine: nothing is answered before
    refused_at = []

    def respond(request: Received, before: int) -> Answer:
        if before < 4:
            all_there.wait(timeout=20)
        if before == 0:
            refused_at.append(time.monotonic())
            return fails(429, retry_after="2")
        answer = echo(request)
        answer.delay_s = 1.0 if before < 4 else 0.0  # the refusal is the first to come back
        return answer

    endpoint.respond = respond

    replies = answers(teacher(endpoint, concurrency=4, max_wait_s=5.0), asked(12))

    assert [r.finish_reason for r in replies] == ["stop"] * 12
    # Those in flight when the refusal came could not know; nobody else may be early.
    assert all(request.at - refused_at[0] >= 1.99 for request in endpoint.requests[4:])
    assert len(endpoint.requests) == 13


@pytest.mark.parametrize("skew_s", [-3600, 3600])
def test_S02_A02_a_date_counts_from_the_servers_own_clock(endpoint, answers, skew_s):
    there = time.time() + skew_s
    headers = {
        "retry-after": formatdate(there + 2, usegmt=True),
        "date": formatdate(there, usegmt=True),
    }
    endpoint.respond = first(Answer(429, b"{}", headers))

    answers(teacher(endpoint, max_wait_s=5.0), asked())

    first_at, second_at = (request.at for request in endpoint.requests)
    assert 1.9 <= second_at - first_at < 10  # our own clock says an hour


def test_S03_A03_a_wait_beyond_the_agreed_one_stops_resumably(endpoint, answers):
    endpoint.respond = first(fails(429, retry_after="3600"))

    with pytest.raises(TeacherDown, match=r"3600 s .*max_wait_s 2; all replies so far are stored"):
        answers(teacher(endpoint), asked())

    assert len(endpoint.requests) == 1
    assert len(answers(teacher(endpoint), asked())) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "1e309", "nan", ""])
def test_A03_a_wait_that_makes_no_sense_is_ours_to_choose(endpoint, answers, value):
    endpoint.respond = first(fails(429, retry_after=value))

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.finish_reason, len(endpoint.requests)) == ("stop", 2)


MONEY = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
]


@pytest.mark.parametrize("code", MONEY)
@pytest.mark.parametrize("place", ["code", "kind"])
def test_S04_A04_no_money_stops_everybody(endpoint, until_error, code, place):
    all_there = threading.Barrier(3)  # however slow the machine: nothing is answered before

    def respond(_request: Received, _before: int) -> Answer:
        all_there.wait(timeout=20)
        return fails(429, **{place: code})

    endpoint.respond = respond

    seen, error = until_error(teacher(endpoint, concurrency=3), asked(20))

    assert (seen, type(error), error.exit_code) == ([], MoneyError, 21)
    assert len(endpoint.requests) == 3  # one for each worker, none of them again


@pytest.mark.parametrize("good_before", [0, 50])
def test_S05_A23_a_refused_key_stops_at_once_and_keeps_what_came(
    endpoint, until_error, good_before
):
    endpoint.respond = lambda request, n: echo(request) if n < good_before else fails(401)

    seen, error = until_error(teacher(endpoint), asked(60))

    assert (len(seen), error.exit_code) == (good_before, 20)
    assert len(endpoint.requests) == good_before + 1


def test_A23_a_key_that_is_refused_before_the_start_costs_no_request(endpoint, until_error):
    endpoint.models = fails(401)

    seen, error = until_error(teacher(endpoint), asked(3))

    assert (seen, type(error), endpoint.requests) == ([], CredentialsError, [])


@pytest.mark.parametrize("answer", [fails(403), fails(404, code="model_not_found")])
def test_S06_A24_a_wrong_model_stops_after_the_first(endpoint, until_error, answer):
    endpoint.respond = lambda *_: answer

    _, error = until_error(teacher(endpoint), asked(5))

    assert (type(error), len(endpoint.requests)) == (CredentialsError, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fails(400, code="content_filter"), "content_filter"),
        (says(None, finish_reason="content_filter"), "content_filter"),
        (says(None, refusal="I will not"), "refusal"),
    ],
)
def test_S07_S20_A17_what_a_server_will_not_say_costs_one_row(endpoint, answers, answer, reason):
    endpoint.respond = first(answer)

    replies = answers(teacher(endpoint), asked(4))

    assert sorted(r.finish_reason for r in replies) == sorted([reason, "stop", "stop", "stop"])
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("status", [400, 422])
def test_S08_a_rejected_request_fails_alone_but_many_in_a_row_stop_the_job(
    endpoint, answers, until_error, status
):
    endpoint.respond = first(fails(status))
    replies = answers(teacher(endpoint), asked(4))
    assert [r.finish_reason for r in replies] == ["rejected", "stop", "stop", "stop"]

    endpoint.respond = lambda *_: fails(status)
    seen, error = until_error(teacher(endpoint), asked(40)[4:])
    assert (len(seen), type(error), error.exit_code) == (20, TooManyFailures, 23)


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 529])
def test_S09_A06_what_may_pass_is_tried_again(endpoint, answers, status):
    endpoint.respond = first(Answer(status, b"<html>bad gateway</html>"))

    replies = answers(teacher(endpoint), asked(3))

    assert [r.finish_reason for r in replies] == ["stop"] * 3
    assert len(endpoint.requests) == 4


def test_A05_a_storm_of_slow_down_passes(endpoint, answers):
    refused_at: list[float] = []

    def respond(request: Received, before: int) -> Answer:
        now = time.monotonic()
        if before < 5 or (refused_at and now - refused_at[0] > 2):
            return echo(request)
        refused_at.append(now)
        return fails(429, code="slow_down")

    endpoint.respond = respond

    replies = answers(teacher(endpoint, concurrency=8, max_wait_s=60.0), asked(40))

    assert len(replies) == 40
    # Whoever was on the way, then one after half a second, one second and two.
    assert 2 <= len(refused_at) <= 8 + 3
    assert len(endpoint.requests) == 40 + len(refused_at)


def test_S09_A07_an_endpoint_that_stays_down_is_left_after_bounded_attempts(endpoint, until_error):
    endpoint.respond = lambda *_: fails(503)

    seen, error = until_error(teacher(endpoint, concurrency=4, attempts=3), asked(100))

    assert (seen, type(error), error.exit_code) == ([], TeacherDown, 22)
    assert 3 <= len(endpoint.requests) <= 3 * 2 * 4


def test_a_request_that_never_works_does_not_keep_the_others_from_theirs(endpoint, until_error):
    endpoint.respond = lambda request, _: (
        fails(500) if '"Does treatment 3 ' in request.text else echo(request)
    )

    seen, error = until_error(teacher(endpoint, concurrency=2, attempts=3), asked(12))

    assert len(seen) == 11
    assert (type(error), "PMID 3 " in str(error)) == (TeacherDown, True)


def test_S10_A08_a_closed_port_is_noticed_before_anything_is_sent(until_error):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    started = time.monotonic()

    class Nowhere:
        url = f"http://127.0.0.1:{port}/v1"

    seen, error = until_error(teacher(Nowhere()), asked())

    assert (seen, type(error)) == ([], TeacherDown)
    assert "nothing was sent" in str(error)
    assert time.monotonic() - started < 10


def test_A08_a_black_hole_is_noticed_before_anything_is_sent(until_error):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()

        class BlackHole:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

        seen, error = until_error(teacher(BlackHole(), timeout_s=60.0), asked())

    assert (seen, type(error), error.exit_code) == ([], TeacherDown, 22)
    assert time.monotonic() - started < 15  # eight, not the timeout's sixty


def test_S11_an_answer_that_does_not_come_may_have_been_paid_for(endpoint, answers, tmp_path):
    slow = says("late")
    slow.delay_s = 5.0
    endpoint.respond = first(slow)
    costly = teacher(
        endpoint, timeout_s=1.0, price={"input": 1, "cached": 1, "output": 1}, max_usd=1.0
    )

    (reply,) = answers(costly, asked())

    assert reply.finish_reason == "stop"
    with open_store(tmp_path / "journal") as store:
        account = store.account([reply.key])
    assert (account.attempts, account.lost) == (2, 1)
    assert account.lost_micros > 0


def body_of(text: str = "fine") -> bytes:
    return says(text).body


def cut_short(connection: socket.socket) -> None:
    connection.sendall(ok(body_of()[:40], length=len(body_of())))
    connection.close()


def reset_midway(connection: socket.socket) -> None:
    connection.sendall(ok(body_of()[:40], length=len(body_of())))
    time.sleep(0.05)
    reset(connection)


def chunked_cut(connection: socket.socket) -> None:
    connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        b"10\r\n" + body_of()[:16] + b"\r\n"
    )
    connection.close()


@pytest.mark.parametrize("fault", [cut_short, reset_midway, chunked_cut])
def test_S12_A10_a_body_that_breaks_off_is_lost_and_asked_for_again(answers, tmp_path, fault):
    def script(connection: socket.socket, before: int) -> None:
        if before == 0:
            fault(connection)
        else:
            connection.sendall(ok(body_of()))

    with raw_serving(script) as (url, received):
        (reply,) = answers(teacher(At(url)), asked())

    assert (reply.content, len(received)) == ("fine", 2)
    with open_store(tmp_path / "journal") as store:
        assert store.account([reply.key]).lost == 1


class At:
    def __init__(self, url: str) -> None:
        self.url = url


def test_S13_A09_a_dripping_answer_ends_at_the_total_deadline(until_error):
    def script(connection: socket.socket, _before: int) -> None:
        connection.sendall(ok(b"", length=10_000))
        for _ in range(200):
            connection.sendall(b" ")
            time.sleep(0.1)

    with raw_serving(script) as (url, _):
        took = []
        while not took or (min(took) >= 1.7 and len(took) < 3):  # a busy machine gets three tries
            started = time.monotonic()
            _, error = until_error(teacher(At(url), timeout_s=1.0, attempts=1), asked())
            took.append(time.monotonic() - started)

    assert "no whole answer within 1 s" in str(error)
    assert 1.0 <= min(took) < 1.7


def test_S14_A11_a_connection_closed_between_requests_loses_and_doubles_nothing(answers):
    def script(connection: socket.socket, before: int) -> None:
        connection.sendall(ok(body_of(f"reply {before}")))
        connection.close()  # without saying so: the client believes it is kept alive

    with raw_serving(script) as (url, received):
        replies = answers(teacher(At(url)), asked(5))

    assert [r.finish_reason for r in replies] == ["stop"] * 5
    assert len({r.key for r in replies}) == 5
    assert len(received) >= 5


@pytest.mark.parametrize("body", [b"", b'{"choices": [{"mess', b"[]", b"{}"])
def test_S15_A12_a_body_that_stays_unreadable_is_invalid_and_kept(
    endpoint, answers, tmp_path, body
):
    endpoint.respond = lambda *_: Answer(200, body)

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.content, reply.finish_reason, len(endpoint.requests)) == (None, "invalid", 3)
    with open_store(tmp_path / "journal") as store:
        assert [b.text for b in store.bodies(reply.key)] == [body.decode()] * 3


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def fifty_megabytes(connection: socket.socket) -> None:
    connection.sendall(ok(b"x" * 50_000_000))


def gzip_bomb(connection: socket.socket) -> None:
    connection.sendall(ok(gzip.compress(b"x" * 50_000_000), b"content-encoding: gzip"))


def test_A12_an_error_without_end_is_cut_too(until_error):
    def script(connection: socket.socket, _before: int) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\ncontent-type: text/plain\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with raw_serving(script) as (url, received):
        _, error = until_error(teacher(At(url), attempts=2), asked())

    assert (type(error), len(received)) == (TeacherDown, 2)
    assert "HTTP 503: no reason given" in str(error)


@pytest.mark.parametrize("fault", [endless, fifty_megabytes, gzip_bomb])
def test_A12_a_body_without_end_is_cut_and_costs_one_row(answers, tmp_path, fault):
    with raw_serving(lambda connection, _: fault(connection)) as (url, received):
        (reply,) = answers(teacher(At(url)), asked())

    assert (reply.finish_reason, len(received)) == ("invalid", 3)
    with open_store(tmp_path / "journal") as store:
        assert all(len(body.text) <= 1 << 18 for body in store.bodies(reply.key))


@pytest.mark.parametrize(
    "page",
    [
        Answer(200, b"<html>please log in</html>", {"content-type": "text/html"}),
        Answer(200, b"  <!doctype html>"),
    ],
)
def test_S16_a_web_page_is_no_answer(endpoint, answers, until_error, page):
    endpoint.respond = first(page)
    (reply,) = answers(teacher(endpoint), asked())
    assert reply.finish_reason == "stop"

    endpoint.respond = lambda *_: page
    _, error = until_error(teacher(endpoint), asked(30)[1:])
    assert (type(error), "web page" in str(error)) == (TeacherDown, True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "insufficient_quota"}, MoneyError),
        ({"type": "insufficient_quota"}, MoneyError),
        ({"code": "invalid_api_key"}, CredentialsError),
        ({"message": "overloaded"}, TeacherDown),
        ("overloaded", TeacherDown),
    ],
)
def test_S17_A14_an_error_with_status_200_is_judged_by_its_code(
    endpoint, until_error, error, expected
):
    endpoint.respond = lambda *_: Answer(200, json.dumps({"error": error}).encode())

    _, raised = until_error(teacher(endpoint), asked())

    assert type(raised) is expected


MESSAGE = {"finish_reason": "stop", "message": {"content": "first"}}


@pytest.mark.parametrize(
    ("choices", "reason", "content"),
    [
        ([], "invalid", None),
        (None, "invalid", None),
        ("oops", "invalid", None),
        ([{"finish_reason": "stop"}], "invalid", None),
        ([MESSAGE, {"finish_reason": "stop", "message": {"content": "second"}}], "stop", "first"),
    ],
)
def test_S18_A15_odd_choices_are_invalid_and_only_the_first_counts(
    endpoint, answers, choices, reason, content
):
    endpoint.respond = lambda *_: Answer(200, json.dumps({"choices": choices}).encode())

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.finish_reason, reply.content) == (reason, content)


def test_S19_A16_a_cut_reply_gets_one_longer_try_and_is_never_taken_for_whole(endpoint, answers):
    whole_json = '{"question": "Is it whole?", "long_answer": "Yes."}'
    endpoint.respond = lambda *_: says(whole_json, finish_reason="length")

    (reply,) = answers(teacher(endpoint, max_tokens=80), asked())

    assert reply.finish_reason == "length"
    assert [r.body["max_tokens"] for r in endpoint.requests] == [80, 160]


def test_S19_a_reply_that_fits_into_twice_the_room_is_whole(endpoint, answers):
    endpoint.respond = first(says("half", finish_reason="length"))

    (reply,) = answers(teacher(endpoint), asked())

    assert (reply.finish_reason, len(endpoint.requests)) == ("stop", 2)


def test_S23_an_answer_to_another_request_is_noticed(endpoint, answers):
    cached = says("the same for all")
    endpoint.respond = lambda *_: cached

    replies = answers(teacher(endpoint, max_failed_share=1.0), asked(1))
    assert [r.finish_reason for r in replies] == ["stop"]

    endpoint.respond = lambda _, n: cached if n % 4 == 1 else says(f"number {n}")
    more = answers(teacher(endpoint), asked(9)[1:])
    assert sum(r.content == "the same for all" for r in more) == 1
    assert len(more) == 8


def test_S24_A22_another_model_is_refused_unless_allowed_and_costs_nothing_again(
    endpoint, answers, until_error
):
    endpoint.respond = lambda *_: says("fine", model="cheaper")
    seen, error = until_error(teacher(endpoint), asked())
    assert (seen, error.exit_code) == ([], 23)
    assert "m was asked, cheaper answered" in str(error)
    endpoint.respond = lambda *_: says("fine", model="m-mini")
    _, error = until_error(teacher(endpoint), asked(2)[1:])
    assert "m was asked, m-mini answered" in str(error)

    replies = answers(teacher(endpoint, accept_models=["cheaper"]), asked())

    assert [r.served_model for r in replies] == ["cheaper"]
    assert len(endpoint.requests) == 2  # the second run read what the first had received


def test_S24_a_dated_snapshot_is_the_model_that_was_asked_for(endpoint, answers):
    endpoint.respond = lambda *_: says("fine", model="m-2026-01-31")

    (reply,) = answers(teacher(endpoint), asked())

    assert reply.served_model == "m-2026-01-31"


PRICE = {"input": 1, "cached": 1, "output": 1}


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": float("nan"), "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 10**30},
    ],
    ids=["none", "negative", "nan", "bool", "absurd"],
)
def test_S25_A28_usage_that_cannot_be_is_charged_at_the_most_and_the_cap_holds(
    endpoint, until_error, tmp_path, usage
):
    def respond(request: Received, _before: int) -> Answer:
        body = json.loads(echo(request).body)
        body["usage"] = usage
        return Answer(200, json.dumps(body).encode())

    endpoint.respond = respond
    capped = teacher(endpoint, price=PRICE, max_usd=0.02, concurrency=3)

    seen, error = until_error(capped, asked(60))

    assert (type(error), error.exit_code) == (MoneyError, 21)
    with open_store(tmp_path / "journal") as store:
        spent = store.spent_micros()
    if usage is not None and usage["prompt_tokens"] != usage["prompt_tokens"]:
        assert seen == [] or spent <= 20_000  # NaN is no JSON: such a body is invalid
    assert 0 < spent <= 20_000
    assert len(endpoint.requests) < 60


def test_A28_an_honest_bill_lets_more_through_and_a_rerun_starts_from_what_was_spent(
    endpoint, until_error
):
    capped = teacher(endpoint, price=PRICE, max_usd=0.005)
    seen, error = until_error(capped, asked(600))
    assert (type(error), len(seen) > 20) == (MoneyError, True)
    sent = len(endpoint.requests)

    again, error = until_error(capped, asked(600)[len(seen) :])

    assert (again, len(endpoint.requests), type(error)) == ([], sent, MoneyError)


@pytest.mark.parametrize("status", [307, 308])
def test_S26_A25_a_redirect_takes_the_prompt_nowhere(endpoint, until_error, status):
    with serving() as other:
        endpoint.respond = lambda *_: Answer(status, b"", {"location": other.url})
        _, error = until_error(teacher(endpoint), asked())

    assert (type(error), "base_url" in str(error)) == (ParamsError, True)
    assert (other.requests, other.looks) == ([], 0)


@pytest.mark.parametrize(
    ("status", "meaning"), [(418, "rejected"), (599, "stop"), (451, "rejected")]
)
def test_S28_a_status_nobody_listed_is_decided_by_its_class(endpoint, answers, status, meaning):
    endpoint.respond = first(fails(status))

    replies = answers(teacher(endpoint), asked(2))

    assert replies[0].finish_reason == meaning or {r.finish_reason for r in replies} == {"stop"}
    assert sum(r.finish_reason == "rejected" for r in replies) == (meaning == "rejected")


GOOD = '{"question": "Does it help in adults?", "answer": "yes", "long_answer": "It did."}'
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD, None),
        (f"```json\n{GOOD}\n```", None),  # one fence is said in the prompt's own language
        (GOOD.replace("yes", "Probably yes."), "unknown_answer"),
        (GOOD.replace('"answer"', '"verdict"'), "no_answer"),
        (f"[{GOOD}, {GOOD}]", "not_json_or_fields"),
        (f"[[{GOOD}]]", "not_json_or_fields"),
        (f"Sure! Here it is: {GOOD}", "not_json_or_fields"),
    ],
)
def test_S21_A18_a_reply_that_is_not_what_was_asked_for_is_rejected_with_a_reason(
    endpoint, tmp_path, content, reason
):
    assert read_reply(endpoint, tmp_path, content) == reason


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace('"It did."', "NaN"),
        GOOD.replace('"It did."', "1e999"),
        GOOD.replace('"answer"', '"question"'),
        GOOD.replace('"It did."', DEEP),
        GOOD.replace('"It did."', "9" * 5000),
    ],
    ids=["nan", "infinite", "twice", "deep", "digits"],
)
def test_S22_A19_json_that_python_would_swallow_is_rejected_in_no_time(endpoint, tmp_path, content):
    started = time.monotonic()

    assert read_reply(endpoint, tmp_path, content) is not None
    assert time.monotonic() - started < 1 + 5  # the server and the journal are in it too


@pytest.mark.parametrize(
    ("character", "kept"),
    [
        ("\ud800", False),  # a lone surrogate
        ("\x00", False),
        ("\u202e", False),  # writes from right to left from here on
        ("\U000e0041", False),  # a tag character: invisible text
        ("\u200b", False),  # zero width
        ("\u2028", True),  # a line separator, which some readers cut lines at
        ("\u00b5", True),
    ],
    ids=lambda value: f"U+{ord(value):04X}" if isinstance(value, str) else str(value),
)
def test_A20_odd_characters_are_rejected_or_escaped_and_no_file_breaks(
    endpoint, tmp_path, character, kept
):
    content = json.dumps(json.loads(GOOD) | {"long_answer": f"It{character}did."})

    reason = read_reply(endpoint, tmp_path, content)

    assert (reason is None) is kept
    lines = (tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 2
    assert lines[1] == b""


def read_reply(endpoint: FakeEndpoint, folder: Path, content: str) -> str | None:
    """Ask for one new question, let the pipeline read the reply; return why it gave no pair."""
    endpoint.respond = lambda *_: says(content)
    source = question("1")
    wanted = requests(
        [source],
        per_question=1,
        strategy="new",
        prompt=load_prompt("new", "chat", "v2"),
    )
    plan = Plan(teacher(endpoint), "api", wanted, 1.0)
    carry_out(plan, work=folder, out=folder / "out.jsonl", metrics=folder / "spend.json")
    parsed = parse_all(read_jsonl(folder / "out.jsonl", Exchange), [source], "asked")
    assert len(parsed.pairs) + len(parsed.unreadable) == 1
    return parsed.unreadable[0].reason if parsed.unreadable else None


def test_S27_a_repeated_post_is_a_second_paid_call_and_is_counted_as_one(
    endpoint, answers, tmp_path
):
    """Servers know no idempotency key, so the account bounds what a repetition can have cost."""
    slow = says("late")
    slow.delay_s = 5.0
    endpoint.respond = first(slow)
    costly = teacher(endpoint, timeout_s=1.0, price=PRICE, max_usd=1.0)

    replies = answers(costly, asked(3))

    with open_store(tmp_path / "journal") as store:
        account = store.account([r.key for r in replies])
        assert store.spent_micros() == account.micros + account.lost_micros
    assert account.attempts == len(endpoint.requests) == 4
    assert (account.lost, account.lost_micros > 500) == (1, True)


def test_what_a_server_says_about_a_rejection_is_told(endpoint, until_error):
    body = json.dumps({"detail": "max_tokens is too large"}).encode()
    endpoint.respond = lambda *_: Answer(422, body)

    _, error = until_error(teacher(endpoint), asked(30))

    assert "HTTP 422: max_tokens is too large" in str(error)


def test_A39_concurrency_and_order_change_no_content(endpoint, tmp_path):
    def jittered(request: Received, before: int) -> Answer:
        answer = echo(request)
        answer.delay_s = (before * 7 % 5) / 200
        return answer

    endpoint.respond = jittered
    found = []
    for concurrency, wanted in [(1, asked(24)), (16, asked(24)), (16, asked(24)[::-1])]:
        asker = teacher(endpoint, concurrency=concurrency)
        with open_store(tmp_path / str(len(found))) as store:
            replies = [r for group in asker.answer(wanted, store) for r in group]
        found.append({r.key: r.content for r in replies})

    assert found[0] == found[1] == found[2]
    assert len(set(found[0].values())) == 24


ASKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from medslm.errors import stage
from medslm.teacher.store import open_store
from tests.teacher.test_endpoint import asked, teacher

@stage
def main():
    asker = teacher(SimpleNamespace(url=sys.argv[1]), concurrency=3, timeout_s=10.0)
    with open_store(Path(sys.argv[2])) as store:
        for group in asker.answer(asked(200), store):
            store.append(group)

main()
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_A31_a_signal_stops_sending_and_what_is_in_flight_is_kept(endpoint, tmp_path, number, code):
    def respond(request: Received, _before: int) -> Answer:
        answer = echo(request)
        answer.delay_s = 0.3
        return answer

    endpoint.respond = respond
    command = [sys.executable, "-c", ASKER, endpoint.url, str(tmp_path / "journal")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asker:
        wait_until(lambda: len(endpoint.requests) >= 6)
        asker.send_signal(number)
        _, said = asker.communicate(timeout=20)

    assert asker.returncode == code, said
    assert "stopped by a signal; all replies so far are stored" in said
    with open_store(tmp_path / "journal") as store:
        assert len(store) == len(endpoint.requests) < 20


def test_A31_a_second_ctrl_c_does_not_wait(endpoint, tmp_path):
    def respond(request: Received, _before: int) -> Answer:
        answer = echo(request)
        answer.delay_s = 18.0
        return answer

    endpoint.respond = respond
    command = [sys.executable, "-c", ASKER, endpoint.url, str(tmp_path / "journal")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asker:
        assert asker.stderr is not None
        wait_until(lambda: len(endpoint.requests) >= 3)
        asker.send_signal(signal.SIGINT)
        while "stopping: waiting for 3 answers" not in asker.stderr.readline():
            pass
        started = time.monotonic()
        asker.send_signal(signal.SIGINT)
        asker.communicate(timeout=20)

    assert asker.returncode == 130
    assert time.monotonic() - started < 10


def wait_until(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_a_server_without_structured_outputs_is_used_without_and_the_record_says_so(
    endpoint, answers
):
    def respond(request: Received, _before: int) -> Answer:
        if "response_format" in request.body:
            body = {"error": {"message": "'response_format' of type json_schema is unavailable"}}
            return Answer(400, json.dumps(body).encode())
        return echo(request)

    endpoint.respond = respond
    replies = answers(teacher(endpoint, structured=True, concurrency=2), asked(6))
    assert [r.structured for r in replies] == [False] * 6
    assert len(endpoint.requests) <= 8

    endpoint.respond = lambda request, _: echo(request)
    held = answers(teacher(endpoint, structured=True), asked(7)[6:])
    assert [r.structured for r in held] == [True]


def test_a_kill_after_the_body_pays_for_nothing_twice(endpoint, answers, tmp_path):
    """What `received` put on the disk is read by the next run, whatever became of this one."""
    (request,) = asked()
    with open_store(tmp_path / "journal") as store:
        for group in teacher(endpoint).answer([request], store):
            assert [r.key for r in group] == [request.key]  # and never appended: we are dead
    assert len(endpoint.requests) == 1

    (reply,) = answers(teacher(endpoint), [request])

    assert (reply.finish_reason, len(endpoint.requests)) == ("stop", 1)


def test_the_key_is_in_no_byte_of_the_journal(endpoint, answers, tmp_path):
    endpoint.respond = lambda request, n: [
        Answer(500, json.dumps({"error": {"message": f"no {KEY}"}}).encode()),
        says(f"You sent {request.headers['authorization']}"),
    ][min(n, 1)]

    (reply,) = answers(teacher(endpoint), asked())

    assert reply.content == "You sent Bearer [key]"
    written = b"".join(file.read_bytes() for file in (tmp_path / "journal").iterdir())
    assert b"[key]" in written
    assert KEY.encode() not in written
