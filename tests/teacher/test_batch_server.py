from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medslm.errors import (
    CredentialsError,
    MoneyError,
    ParamsError,
    TeacherDown,
    TooManyFailures,
)
from medslm.teacher.batch_submit import Limits
from tests.teacher.batch_world import (
    ASKED,
    EXPECTED,
    KEY,
    MOST,
    World,
    asked,
    contents,
    once,
)
from tests.teacher.fake_batch import (
    HANG_UP,
    Answer,
    answered,
    completion,
    fails,
    refused,
    row,
    serving_batches,
    unfinished,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with serving_batches() as server:
        yield World(server, tmp_path / "journal")


# --- what comes back ---


def test_both_files_are_read_and_every_row_has_its_own_consequence(world):
    first, second, third, fourth = (r.key for r in ASKED)
    tried: list[str] = []

    def answer(line: dict[str, Any]) -> Any:
        key = line["custom_id"]
        tried.append(key)
        if key == second:
            return refused(line, 400, None, "bad request")
        if key == third:
            return refused(line, 400, "content_filter", "filtered")
        if key == fourth and tried.count(fourth) == 1:
            return refused(line, 500, "server_error", "hiccup")
        return answered(line)

    world.server.answer = answer

    assert world.run(ASKED) is None
    found = world.replies()
    assert {key: found[key].finish_reason for key in found} == {
        first: "stop",
        second: "rejected",
        third: "content_filter",
        fourth: "stop",
    }
    assert world.server.sizes() == [4, 1]
    assert world.spent() == 20


@pytest.mark.parametrize("status", [429, 500, 503])
def test_rows_that_may_pass_are_sent_again_but_not_for_ever(world, status):
    world.server.answer = lambda line: refused(line, status, None, "busy")

    error = world.run(ASKED)

    assert isinstance(error, TeacherDown)
    assert "no answer for PMID 1 and 3 more in 3 attempts" in str(error)
    assert len(world.server.batches) == 3
    assert world.spent() == 0


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "insufficient_quota", MoneyError),
        (402, None, MoneyError),
        (401, "invalid_api_key", CredentialsError),
        (404, "model_not_found", CredentialsError),
    ],
)
def test_rows_that_all_others_would_get_stop_the_job_after_the_rest_was_kept(
    world, status, code, kind
):
    world.server.answer = lambda line: (
        refused(line, status, code, "no") if line["custom_id"] == ASKED[0].key else answered(line)
    )

    assert isinstance(world.run(ASKED), kind)
    assert set(contents(world)) == {r.key for r in ASKED[1:]}
    assert len(world.server.batches) == 1


def test_an_expired_batch_keeps_its_finished_half_and_the_rest_is_sent_again(world):
    half = {r.key for r in ASKED[:2]}
    world.server.ends = lambda _: "expired" if len(world.server.batches) == 1 else "completed"
    world.server.answer = lambda line: (
        answered(line)
        if line["custom_id"] in half or len(world.server.batches) > 1
        else unfinished(line)
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    assert world.server.sizes() == [4, 2]
    assert world.spent() == 40


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_requests_without_any_row_in_an_unfinished_batch_cost_nothing_and_are_sent_again(
    world, status
):
    world.server.ends = lambda _: status if len(world.server.batches) == 1 else "completed"
    world.server.answer = lambda line: (
        None
        if len(world.server.batches) == 1 and line["custom_id"] != ASKED[0].key
        else answered(line)
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == 40
    assert world.server.sizes() == [4, 3]


def test_requests_without_a_row_in_a_completed_batch_may_have_been_paid_for(world):
    world.server.answer = lambda line: (
        None
        if len(world.server.batches) == 1 and line["custom_id"] == ASKED[0].key
        else answered(line)
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == 40 + MOST


@pytest.mark.parametrize("keeps_name", [True, False], ids=["named", "nameless"])
def test_a_damaged_line_costs_one_row_counted_at_its_most(world, keeps_name, caplog):
    def edit(output: bytes, error: bytes) -> tuple[bytes, bytes]:
        if len(world.server.batches) > 1:
            return output, error
        lines = output.splitlines(keepends=True)
        lines[1] = lines[1][:-20] + b"\n" if keeps_name else b'{"id": "x\n'
        return b"".join(lines), error

    world.server.edit = edit
    world.server.ends = lambda _: "expired" if len(world.server.batches) == 1 else "completed"

    with caplog.at_level(logging.WARNING):
        assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.server.sizes() == [4, 1]
    assert world.spent() == 40 + MOST
    assert "1 requests without a readable row" in caplog.text


def test_rows_of_no_request_and_repeated_rows_are_counted_and_ignored(world, caplog):
    def edit(output: bytes, error: bytes) -> tuple[bytes, bytes]:
        other = json.loads(output.splitlines()[0])
        other["response"]["body"] = completion("another text")
        foreign = {**other, "custom_id": "f" * 64}
        named = {**other, "custom_id": "not a key of ours"}
        extra = "".join(json.dumps(r) + "\n\n" for r in (other, foreign, named)).encode()
        return (output + extra).rstrip(), error

    world.server.edit = edit

    with caplog.at_level(logging.WARNING):
        assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == 40
    assert "0 damaged without a name, 2 of no request, 1 repeated" in caplog.text


def test_a_line_that_is_too_long_is_cut_off_and_the_next_is_read(world):
    big = "x" * (3 << 20)
    world.server.answer = lambda line: (
        row(line["custom_id"], 200, completion(big))
        if len(world.server.batches) == 1 and line["custom_id"] == ASKED[0].key
        else answered(line)
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == 40 + MOST


def test_a_file_without_an_end_is_left_and_what_it_may_hold_is_asked_again(world, caplog):
    world.max_file_bytes = 100_000
    world.server.edit = lambda output, error: (
        (output.splitlines(keepends=True)[0] + b" " * 200_000, error)
        if len(world.server.batches) == 1
        else (output, error)
    )

    with caplog.at_level(logging.WARNING):
        assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert "longer than 100000 bytes" in caplog.text


@pytest.mark.parametrize(
    ("name", "spent"), [("output_file_id", 40 + 3 * MOST), ("error_file_id", 40)]
)
def test_a_result_file_that_is_gone_is_asked_for_again(world, name, spent):
    world.server.answer = lambda line: (
        unfinished(line)
        if len(world.server.batches) == 1
        and (line["custom_id"] == ASKED[0].key) == (name == "output_file_id")
        else answered(line)
    )
    world.server.ends = lambda _: "expired" if len(world.server.batches) == 1 else "completed"

    def before(call: str) -> None:
        batch = next(iter(world.server.batches.values()), {})
        if call.endswith("/content"):
            world.server.files.pop(batch.get(name) or "", None)

    world.server.before = before

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == spent


def test_a_download_that_is_cut_goes_on_where_it_was(world):
    cuts = [300, 700, 50]
    full: dict[str, bytes] = {}

    def after(call: str) -> Answer | None:
        if call != "GET /files/ID/content" or not cuts:
            return None
        (batch,) = world.server.batches.values()
        full["body"] = world.server.files[batch["output_file_id"]][1]
        return Answer(body=full["body"], cut=cuts.pop(0))

    world.server.after = after
    world.law = {"attempts": 4}

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert world.spent() == 40
    assert world.server.calls.count("GET /files/ID/content") == 4


def test_a_cut_reply_is_sent_once_more_with_twice_the_tokens(world):
    limits: list[int] = []

    def answer(line: dict[str, Any]) -> Any:
        limits.append(line["body"]["max_tokens"])
        short = line["body"]["max_tokens"] == 80
        return row(line["custom_id"], 200, completion("text", "length" if short else "stop"))

    world.server.answer = answer

    assert world.run(ASKED[:1]) is None
    assert limits == [80, 160]
    assert world.replies()[ASKED[0].key].finish_reason == "stop"
    assert world.spent() == 20


@pytest.mark.parametrize(
    "body",
    [
        completion("text", "length"),
        {"choices": []},
        {"error": {"message": "no", "code": "server_error"}},
    ],
    ids=["cut", "no completion", "error"],
)
def test_a_body_that_gave_no_reply_before_a_stop_gives_another_try_after_it(world, body):
    world.server.answer = lambda line: row(line["custom_id"], 200, body)
    world.server.before = lambda call: (
        fails(503) if call == "POST /files" and world.server.batches else None
    )
    assert isinstance(world.run(ASKED[:1]), TeacherDown)
    world.server.answer, world.server.before = answered, lambda _: None

    assert world.run(ASKED[:1]) is None
    assert world.replies()[ASKED[0].key].content == EXPECTED[ASKED[0].key]
    limit = 160 if body.get("choices") else 80
    assert [
        n["body"]["max_tokens"] for b in world.server.batches for n in world.server.lines(b)
    ] == [
        80,
        limit,
    ]


def test_a_reply_that_is_cut_twice_stays_cut(world):
    world.server.answer = lambda line: row(
        line["custom_id"], 200, completion(f"text {len(world.server.batches)}", "length")
    )

    assert world.run(ASKED[:1]) is None
    assert world.replies()[ASKED[0].key].finish_reason == "length"
    assert world.server.sizes() == [1, 1]


def test_a_body_that_is_no_completion_is_paid_for_and_sent_again_at_most_twice(world):
    world.server.answer = lambda line: row(line["custom_id"], 200, {"choices": []})

    assert world.run(ASKED[:1]) is None
    assert world.replies()[ASKED[0].key].finish_reason == "invalid"
    assert world.server.sizes() == [1, 1, 1]
    assert world.spent() == 3 * MOST


@pytest.mark.parametrize(
    ("code", "kind"), [("insufficient_quota", MoneyError), ("server_error", TeacherDown)]
)
def test_an_error_with_status_200_costs_nothing_and_its_code_decides(world, code, kind):
    world.server.answer = lambda line: row(
        line["custom_id"], 200, {"error": {"message": "no", "code": code}}
    )

    assert isinstance(world.run(ASKED), kind)
    assert world.spent() == 0
    assert world.run(ASKED[:1], "sync") is None  # the bodies that are there do not get in the way


def test_another_model_stops_the_job_with_the_bodies_kept(world):
    world.server.answer = lambda line: row(
        line["custom_id"], 200, completion("text", model="other")
    )

    error = world.run(ASKED)
    assert isinstance(error, TooManyFailures)
    assert "m was asked, other answered" in str(error)
    world.law = {"accepts": lambda _, served: served == "other"}
    assert world.run(ASKED) is None
    assert once(world.server, ASKED)


def test_a_server_without_schemas_gets_none_and_every_reply_says_so(world):
    world.law = {"structured": True}
    world.server.answer = lambda line: (
        refused(line, 400, None, "response_format is not supported")
        if "response_format" in line["body"]
        else answered(line)
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert {reply.structured for reply in world.replies().values()} == {False}


def test_replies_held_to_a_schema_say_so(world):
    world.law = {"structured": True}

    assert world.run(ASKED) is None
    assert {reply.structured for reply in world.replies().values()} == {True}
    (number,) = world.server.batches
    assert world.server.lines(number)[0]["body"]["response_format"]["type"] == "json_schema"


def test_a_batch_of_nothing_but_rejections_blames_the_settings(world):
    world.server.answer = lambda line: refused(line, 400, None, "temperature is not supported")
    few, many = asked(19), asked(20)

    assert world.run(few) is None
    assert len(world.replies()) == 19
    world.folder = world.folder.with_name("other")
    error = world.run(many)

    assert isinstance(error, TooManyFailures)
    assert "temperature is not supported" in str(error)
    assert world.replies() == {}


def test_the_key_is_never_in_the_journal_or_the_log(world, caplog):
    world.server.answer = lambda line: (
        refused(line, 400, None, f"you sent {KEY}")
        if line["custom_id"] == ASKED[0].key
        else row(line["custom_id"], 200, completion(f"your key is {KEY}"))
    )
    world.server.before = lambda call: (
        fails(500, None, f"{KEY} failed")
        if call == "GET /batches/ID" and len(world.server.calls) < 5
        else None
    )

    with caplog.at_level(logging.DEBUG, logger="medslm"):
        assert world.run(ASKED) is None
    assert contents(world)[ASKED[1].key] == "your key is [key]"
    assert KEY not in caplog.text
    for path in world.folder.iterdir():
        assert KEY.encode() not in path.read_bytes()
    assert {h["authorization"] for h in world.server.headers} == {f"Bearer {KEY}"}


def test_a_server_without_keys_gets_none(world):
    world.key = None

    assert world.run(ASKED) is None
    assert all("authorization" not in h for h in world.server.headers)


# --- batches that fail as a whole ---


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("billing_hard_limit_reached", MoneyError),
        ("model_not_found", CredentialsError),
        ("invalid_url", ParamsError),
    ],
)
def test_a_batch_that_fails_validation_stops_the_job_and_costs_nothing(world, code, kind):
    world.server.faults = lambda _: [
        {"code": "other", "message": "see below", "line": 1},
        {"code": code, "message": "cannot be", "line": 3},
    ]

    error = world.run(ASKED)

    assert isinstance(error, kind)
    assert world.spent() == 0
    assert not world.open()
    assert len(world.server.batches) == 1
    if kind is not ParamsError:
        assert f"{code}: line 3: cannot be" in str(error)


def test_a_full_queue_makes_smaller_batches_one_after_another(world):
    def faults(batch: dict[str, Any]) -> list[dict[str, Any]]:
        size = len(world.server.lines(batch["id"]))
        full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
        return [full] if size > 2 else []

    world.server.faults = faults

    assert world.run(asked(5)) is None
    assert world.server.sizes() == [5, 2, 2, 1]
    assert once(world.server, asked(5))


def test_a_queue_filled_by_our_own_batches_is_waited_for(world):
    def faults(batch: dict[str, Any]) -> list[dict[str, Any]]:
        others = [b for b in world.server.batches.values() if b["status"] == "in_progress"]
        full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
        return [full] if len(others) > 1 else []

    world.limits = Limits(2, 200_000_000, 0.0)
    world.server.polls = 2
    real = world.server.create

    def create(wanted: dict[str, Any]) -> Answer:
        answer = real(wanted)
        if len(world.server.batches) == 2:  # refused while the first is still at work
            number = list(world.server.batches)[-1]
            world.server.left[number] = 1
        return answer

    world.server.create = create  # type: ignore[method-assign]
    world.server.faults = faults

    assert world.run(ASKED) is None
    assert world.server.sizes() == [2, 2, 2]
    assert once(world.server, ASKED)


def test_a_full_queue_puts_back_only_what_is_asked_for_now(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)
    world.server.faults = lambda batch: (
        [{"code": "token_limit_exceeded"}] if len(world.server.lines(batch["id"])) == 4 else []
    )
    world.wait_s = 1000.0

    assert world.run(ASKED[:1]) is None
    assert world.server.sizes() == [4, 1]
    assert world.run(ASKED) is None
    assert once(world.server, ASKED)


@pytest.mark.parametrize("where", ["batch", "create"])
def test_a_queue_without_any_room_is_waited_for_until_time_is_up(world, where):
    if where == "batch":
        world.server.faults = lambda _: [{"code": "token_limit_exceeded"}]
    else:
        world.server.before = lambda call: (
            fails(429, "token_limit_exceeded") if call == "POST /batches" else None
        )
    world.wait_s = 60.0

    error = world.run(ASKED)

    assert isinstance(error, TeacherDown)
    assert "queue of batches is full, 4 requests wait for their turn" in str(error)
    assert sum(world.clock.slept) >= 60.0
    assert world.spent() == 0
    world.server.faults, world.server.before = lambda _: [], lambda _: None
    assert world.run(ASKED) is None
    assert once(world.server, ASKED)


# --- making a batch ---


@pytest.mark.parametrize("lost", ["POST /files", "POST /batches"])
@pytest.mark.parametrize("arrived", [True, False])
def test_a_call_without_an_answer_is_looked_for_before_it_is_repeated(world, lost, arrived):
    hung: list[str] = []

    def hang_up(call: str) -> Answer | None:
        if call == lost and not hung:
            hung.append(call)
            return HANG_UP
        return None

    if arrived:
        world.server.after = hang_up
    else:
        world.server.before = hang_up

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert len(world.server.batches) == 1
    assert world.server.calls.count(lost) == (1 if arrived else 2)
    assert once(world.server, ASKED)


@pytest.mark.parametrize("call", ["POST /files", "POST /batches", "GET /batches/ID"])
def test_a_busy_server_is_asked_again_and_then_left_for_later(world, call):
    world.server.before = lambda made: fails(503) if made == call else None

    error = world.run(ASKED)

    assert isinstance(error, TeacherDown)
    assert "in 3 attempts, at last HTTP 503" in str(error)
    assert world.server.calls.count(call) == 3
    world.server.before = lambda _: None
    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    names = [name for name, _ in world.server.files.values() if name.startswith("medslm")]
    assert len(names) == 1  # none was left behind
    assert world.spent() == 40


@pytest.mark.parametrize(
    ("call", "answer", "kind"),
    [
        ("POST /files", fails(401, "invalid_api_key"), CredentialsError),
        ("POST /files", fails(404), ParamsError),
        ("POST /files", fails(400, None, "too large"), ParamsError),
        ("POST /batches", fails(429, "insufficient_quota"), MoneyError),
        ("POST /batches", fails(400, None, "no such endpoint"), ParamsError),
        ("POST /batches", fails(403), CredentialsError),
        ("GET /batches/ID", fails(404), CredentialsError),
        ("GET /batches/ID", fails(301), ParamsError),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(getattr(value, "status", value)),
)
def test_a_refusal_that_no_waiting_cures_stops_at_once(world, call, answer, kind):
    world.server.before = lambda made: answer if made == call else None

    error = world.run(ASKED)

    assert isinstance(error, kind)
    assert world.server.calls.count(call) == 1
    world.server.before = lambda _: None
    assert world.run(ASKED) is None
    assert once(world.server, ASKED)
    assert world.spent() == 40


def test_a_server_without_batches_says_so_and_sync_works(world):
    world.server.before = lambda call: fails(404) if "chat" not in call else None

    error = world.run(ASKED)

    assert isinstance(error, ParamsError)
    assert "there is no Batch API" in str(error)
    assert "mode: sync" in str(error)
    assert world.run(ASKED, "sync") is None
    assert contents(world) == EXPECTED


def test_a_wish_to_wait_is_granted_within_bounds(world):
    wishes = ["1.5", "3600"]
    world.server.before = lambda call: (
        fails(429, None, "slow down", retry_after=wishes.pop(0))
        if call == "GET /batches/ID" and wishes
        else None
    )

    error = world.run(ASKED)

    assert isinstance(error, TeacherDown)
    assert "asks to wait 3600 s" in str(error)
    assert world.clock.slept[0] == 1.5
    assert world.run(ASKED) is None


@pytest.mark.parametrize(
    "body",
    [b"<html>portal</html>", b"[]", b"{", b'{"id": 1}', b'{"id": "batch-1"}'],
    ids=["portal", "list", "cut", "no-id", "no-status"],
)
def test_an_answer_that_is_none_is_asked_for_again(world, body):
    world.server.after = lambda call: (
        Answer(body=body) if call == "GET /batches/ID" and len(world.server.calls) == 3 else None
    )

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED


def test_a_web_page_instead_of_a_file_is_fetched_again(world):
    pages = [Answer(body=b"<html>", headers={"content-type": "text/html"})]
    world.server.before = lambda call: pages.pop() if call.endswith("/content") and pages else None

    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED


def test_an_answer_without_an_end_is_left(world):
    world.server.before = lambda call: (
        Answer(body=b" " * (17 << 20)) if call == "GET /batches/ID" else None
    )

    error = world.run(ASKED)
    assert isinstance(error, TeacherDown)
    assert "without an end" in str(error)


def test_an_empty_list_with_more_to_come_ends(world):
    world.server.before = lambda call: (
        Answer.of({"data": [], "has_more": True}) if call == "GET /batches" else None
    )
    world.server.after = lambda call: HANG_UP if call == "POST /batches" else None

    assert isinstance(world.run(ASKED), TeacherDown)
    assert world.server.calls.count("GET /batches") == 3
