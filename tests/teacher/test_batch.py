from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medslm.errors import (
    MoneyError,
    TeacherDown,
)
from medslm.teacher.batch_jobs import held_micros
from medslm.teacher.batch_submit import Limits
from medslm.teacher.store import open_store
from tests.teacher.batch_world import (
    ASKED,
    EXPECTED,
    MOST,
    World,
    arguments,
    asked,
    contents,
    once,
)
from tests.teacher.fake_batch import (
    HANG_UP,
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


# --- submit, leave, come back ---


def test_a_batch_holds_the_same_bodies_as_single_requests_would_under_their_keys(world):
    assert world.run(ASKED) is None

    (number,) = world.server.batches
    lines = world.server.lines(number)
    assert {line["custom_id"] for line in lines} == {r.key for r in ASKED}
    assert {(n["method"], n["url"]) for n in lines} == {("POST", "/v1/chat/completions")}
    alone = arguments()(ASKED[0], max_tokens=80, structured=False)
    assert lines[0]["body"] == alone
    batch = world.server.batches[number]
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    (uploaded, content), *_ = world.server.files.values()
    assert batch["metadata"]["medslm_batch"] in uploaded
    assert content == b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines)


def test_replies_come_whole_cost_what_was_used_and_are_paid_once(world):
    assert world.run(ASKED) is None

    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    assert world.spent() == 10 * len(ASKED)
    assert not world.open()
    reply = world.replies()[ASKED[0].key]
    assert (reply.finish_reason, reply.served_model, reply.structured) == ("stop", "m", False)


def test_a_batch_that_takes_longer_is_left_and_collected_by_a_later_run(world):
    world.server.polls, world.wait_s = 4, 5.0

    left = world.run(ASKED)
    again = world.run(ASKED)

    assert isinstance(left, TeacherDown)
    assert re.search(r"batch-\d+: 0 of 4 done; nothing is lost: run again later", str(left))
    assert "mode: sync" in str(left)
    assert again is None
    assert contents(world) == EXPECTED
    assert len(world.server.batches) == 1
    assert once(world.server, ASKED)


def test_it_asks_seldom_and_never_after_its_time(world):
    world.server.polls, world.wait_s = 1000, 300.0

    world.run(ASKED)

    pauses = world.clock.slept
    assert pauses[0] == 5.0
    assert max(pauses) == 60.0
    assert sum(pauses) == pytest.approx(300.0)
    assert pauses[:-1] == sorted(pauses[:-1])


def test_no_time_at_all_still_submits_and_collects(world):
    world.server.polls, world.wait_s = 2, 0.0

    assert isinstance(world.run(ASKED), TeacherDown)
    assert world.run(ASKED) is None
    assert contents(world) == EXPECTED


def test_a_batch_of_another_ask_is_left_alone(world):
    world.server.polls, world.wait_s = 4, 0.0
    other = asked(6)[4:]

    world.run(ASKED)
    world.run(other)

    assert world.server.sizes() == [4, 2]
    world.wait_s = 1000.0
    assert world.run(other) is None
    assert set(contents(world)) == {r.key for r in other}
    assert world.run(ASKED) is None
    assert once(world.server, [*ASKED, *other])


def test_a_batch_that_holds_more_than_is_asked_for_now_keeps_the_rest_for_later(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)

    assert world.run(ASKED[:1]) is None
    assert set(contents(world)) == {ASKED[0].key}
    assert world.run(ASKED) is None

    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    assert len(world.server.batches) == 1


def test_rows_of_requests_that_are_not_asked_for_now_wait_for_their_own_ask(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)
    rows: dict[str, Any] = {
        ASKED[0].key: answered,
        ASKED[1].key: lambda line: refused(line, 400, None, "bad request"),
        ASKED[2].key: unfinished,
        ASKED[3].key: lambda _: None,
    }
    world.server.answer = lambda line: rows[line["custom_id"]](line)
    world.server.ends = lambda _: "expired"

    assert world.run(ASKED[:1]) is None
    assert set(contents(world)) == {ASKED[0].key}
    assert world.spent() == 10
    world.server.answer, world.wait_s = answered, 1000.0
    assert world.run(ASKED) is None

    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)


def test_more_replies_than_are_made_durable_at_once_all_come(world):
    wanted = asked(300)

    assert world.run(wanted) is None
    assert len(contents(world)) == 300
    assert once(world.server, wanted)
    assert world.spent() == 3000


def test_many_requests_make_several_batches_by_number_and_by_size(world):
    wanted = asked(7)
    world.limits = Limits(3, 200_000_000, 0.0)
    assert world.run(wanted[:4]) is None
    longest = max(
        len(json.dumps(n)) for number in world.server.batches for n in world.server.lines(number)
    )
    world.limits = Limits(50_000, 2 * longest + 10, 0.0)
    assert world.run(wanted) is None

    assert world.server.sizes() == [3, 1, 2, 1]
    assert once(world.server, wanted)


def test_a_request_larger_than_a_batch_goes_alone(world):
    world.limits = Limits(50_000, 1, 0.0)

    assert world.run(ASKED) is None
    assert world.server.sizes() == [1, 1, 1, 1]


@pytest.mark.parametrize("lost", ["POST /files", "POST /batches"])
def test_what_was_made_is_found_however_many_pages_the_list_has(world, lost):
    look = lost.replace("POST", "GET")
    world.server.after = lambda call: HANG_UP if call == lost else None
    world.server.before = lambda call: fails(503) if call == look else None
    assert isinstance(world.run(ASKED), TeacherDown)
    world.server.before = world.server.after = lambda _: None
    world.server.page = 2
    ours = list(world.server.files)
    for number in range(5):
        world.server.files[f"other-{number}"] = (f"other-{number}", b"")
        world.server.create({"input_file_id": f"other-{number}", "metadata": {"job": "x"}})
    for name in ours:  # to the end of the list
        world.server.files[name] = world.server.files.pop(name)

    assert world.run(ASKED) is None

    assert world.server.calls.count(look) > 3
    assert sorted(world.server.sizes()) == [0, 0, 0, 0, 0, 4]
    assert once(world.server, ASKED)
    uploads = [n for n, _ in world.server.files.values() if n.startswith("medslm")]
    assert len(uploads) == 1


# --- money ---


def test_a_batch_is_cut_so_that_its_reservations_fit_and_the_rest_follows(world):
    world.cap = 250

    assert world.run(ASKED) is None
    assert world.server.sizes() == [2, 2]
    assert world.spent() == 40


def test_a_cap_that_not_even_one_request_fits_under_stops_the_job(world):
    world.cap = MOST - 1

    error = world.run(ASKED)

    assert isinstance(error, MoneyError)
    assert "max_usd" in str(error)
    assert world.server.calls == []


def test_the_cap_holds_over_runs_with_a_batch_at_work(world):
    world.cap, world.server.polls, world.wait_s = 250, 6, 0.0

    assert isinstance(world.run(ASKED), TeacherDown)  # two are at work, two do not fit
    error = world.run(ASKED)

    assert isinstance(error, TeacherDown)
    assert "2 requests wait for their turn" in str(error)
    assert world.server.sizes() == [2]
    world.wait_s = 1000.0
    assert world.run(ASKED) is None
    assert world.server.sizes() == [2, 2]
    assert once(world.server, ASKED)
    assert world.spent() == 40


def test_a_cap_lowered_below_a_batch_at_work_lets_nothing_new_be_sent(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED[:3])
    world.cap, world.wait_s = 200, 1000.0

    error = world.run(ASKED)

    assert isinstance(error, MoneyError)
    assert set(contents(world)) == {r.key for r in ASKED[:3]}
    assert world.spent() == 30
    assert world.run(ASKED) is None  # now that it is known what the three cost


def test_what_a_batch_at_work_holds_is_never_more_than_what_is_spent(world):
    world.server.polls = 2
    with open_store(world.folder) as store:
        world.wait_s = 0.0
        with world.batch(store) as batch, pytest.raises(TeacherDown):
            list(batch.answer(ASKED, store))
        here = (store.spent_micros(), held_micros(store))
        world.wait_s = 1000.0
        with world.batch(store) as batch:
            store.append([reply for group in batch.answer(ASKED, store) for reply in group])
    assert here == (0, 0)
    assert contents(world) == EXPECTED

    world.server.polls, world.wait_s = 2, 0.0
    world.run(asked(6))
    with open_store(world.folder) as store:
        assert (store.spent_micros(), held_micros(store)) == (40 + 2 * MOST, 2 * MOST)


def test_usage_that_is_missing_counts_at_its_most(world):
    world.server.answer = lambda line: row(
        line["custom_id"], 200, {**completion("text"), "usage": None}
    )

    assert world.run(ASKED[:1]) is None
    assert world.spent() == MOST


# --- other modes ---


def test_sync_cancels_an_open_batch_keeps_its_finished_part_and_goes_on(world):
    world.server.polls, world.wait_s = 4, 0.0
    world.run(ASKED)
    done = {r.key for r in ASKED[:2]}
    world.server.answer = lambda line: (
        answered(line) if line["custom_id"] in done else unfinished(line, "batch_cancelled")
    )
    world.wait_s = 1000.0

    assert world.run(ASKED, "sync") is None
    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)
    assert world.spent() == 40
    assert "POST /batches/ID/cancel" in world.server.calls
    assert world.server.calls.count("POST /chat/completions") == 2


def test_sync_takes_a_batch_that_has_ended_meanwhile_as_it_is(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)
    (batch,) = world.server.batches.values()
    world.server.finish(batch)

    assert world.run(ASKED, "sync") is None
    assert contents(world) == EXPECTED
    assert world.server.calls.count("POST /chat/completions") == 0


def test_a_cancellation_that_takes_its_time_is_waited_for_and_then_left(world):
    world.server.polls, world.wait_s = 4, 0.0
    world.run(ASKED)

    error = world.run(ASKED, "sync")

    assert isinstance(error, TeacherDown)
    assert "being cancelled; nothing is lost: run again later" in str(error)
    world.wait_s = 1000.0
    assert world.run(ASKED, "sync") is None
    assert once(world.server, ASKED)


def test_a_server_that_cannot_cancel_now_is_asked_again(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)
    busy = [fails(503)]
    world.server.before = lambda call: busy.pop() if "cancel" in call and busy else None
    world.wait_s = 1000.0

    assert world.run(ASKED, "sync") is None
    assert world.server.calls.count("POST /batches/ID/cancel") == 2


def test_what_was_answered_in_sync_is_not_put_into_a_batch(world):
    assert world.run(ASKED[:2], "sync") is None
    assert world.run(ASKED) is None

    assert world.server.sizes() == [2]
    assert contents(world) == EXPECTED
    assert once(world.server, ASKED)


def test_rows_that_stop_a_batch_do_not_stop_the_sync_that_follows_it(world):
    world.server.polls, world.wait_s = 2, 0.0
    world.run(ASKED)
    world.server.answer = lambda line: refused(line, 429, "insufficient_quota", "no")
    world.wait_s = 1000.0

    assert world.run(ASKED, "sync") is None
    assert contents(world) == EXPECTED
