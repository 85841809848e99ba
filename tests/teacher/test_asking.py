from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import pytest

from medslm.data.records import Exchange
from medslm.errors import MedslmError, TeacherDown, TooManyFailures
from medslm.files import read_json, read_jsonl
from medslm.teacher.asking import Asked, Plan, ask, carry_out, exchange, exchanges
from medslm.teacher.replies import Body, Intent, Journal, Reply
from medslm.teacher.requests import Request
from medslm.teacher.store import Store, open_store
from tests.factories import question
from tests.teacher.asked import requests


@dataclasses.dataclass
class Scripted:
    """A teacher whose replies are written in the test: reasons by PMID, an order, an end."""

    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    backwards: bool = False
    stops_after: int | None = None
    asked: list[str] = dataclasses.field(default_factory=list)

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        for n, request in enumerate(reversed(requests) if self.backwards else requests):
            if n == self.stops_after:
                raise TeacherDown("gone")
            self.asked.append(request.key)
            journal.sending([Intent(request.key, 30)])
            journal.received([Body(request.key, "{}", 20, None, n, structured=False)])
            reason = self.reasons.get(request.pmid, "stop")
            usage = {"prompt_tokens": 9, "completion_tokens": 2}
            text = f"for {request.pmid}"
            yield [Reply(request.key, text, reason, usage, "m", n, structured=False)]


ASKED = requests([question(str(n)) for n in range(1, 6)], per_question=1)
OTHER = requests([question(str(n)) for n in range(1, 6)], per_question=1, temperature=0.1)


def contents(store: Store) -> list[str | None]:
    return [e.content for e in exchanges(ASKED, store, "t")]


def put(store: Store, teacher: object, bound: float = 0.0, wanted: list[Request] = ASKED) -> Asked:
    return ask(
        wanted,
        store=store,
        teacher=teacher,  # type: ignore[arg-type]
        teacher_name="t",
        max_failed_share=bound,
    )


def test_a_key_is_never_asked_for_twice(tmp_path):
    teacher = Scripted()

    with open_store(tmp_path) as store:
        first, before = put(store, teacher), contents(store)
    with open_store(tmp_path) as store:
        second, after = put(store, teacher), contents(store)

    assert (first.asked, first.reused, second.asked, second.reused) == (5, 0, 0, 5)
    assert len(teacher.asked) == 5
    assert before == after == [f"for {n}" for n in range(1, 6)]


def test_the_order_of_completion_changes_nothing(tmp_path):
    with open_store(tmp_path / "a") as forwards, open_store(tmp_path / "b") as backwards:
        assert put(forwards, Scripted()) == put(backwards, Scripted(backwards=True))
        assert contents(forwards) == contents(backwards)


def test_replies_before_a_stop_are_stored_and_the_rest_is_asked_for_later(tmp_path):
    with open_store(tmp_path) as store, pytest.raises(TeacherDown):
        put(store, Scripted(stops_after=3))
    teacher = Scripted()

    with open_store(tmp_path) as store:
        put(store, teacher)

    assert teacher.asked == [r.key for r in ASKED[3:]]


def test_requests_that_failed_for_good_are_stored_counted_and_not_asked_again(tmp_path):
    reasons = {"2": "rejected", "4": "length"}
    with open_store(tmp_path) as store:
        first = put(store, Scripted(reasons), bound=0.5)
    teacher = Scripted()

    with open_store(tmp_path) as store:
        second = put(store, teacher, bound=0.5)
        after = contents(store)

    assert first.failed == second.failed == {"length": 1, "rejected": 1}
    assert teacher.asked == []
    assert after == ["for 1", None, "for 3", None, "for 5"]


@pytest.mark.parametrize(("bound", "fails"), [(0.39, True), (0.4, False)])
def test_too_many_failures_stop_the_stage_after_everything_is_stored(tmp_path, bound, fails):
    teacher = Scripted({"2": "rejected", "4": "length"})

    with open_store(tmp_path) as store:
        if fails:
            with pytest.raises(TooManyFailures, match=r"2 of 5 .*length 1, rejected 1.* 0\.39"):
                put(store, teacher, bound=bound)
        else:
            put(store, teacher, bound=bound)
        assert len(store) == 5


def test_a_teacher_that_forgets_a_request_is_a_bug(tmp_path):
    class Forgetful:
        def answer(
            self, requests: Sequence[Request], _journal: Journal
        ) -> Iterator[Sequence[Reply]]:
            yield [Reply(requests[0].key, "x", "stop", None, "m", 0, structured=False)]

    with open_store(tmp_path) as store, pytest.raises(MedslmError, match="4 of 5") as caught:
        put(store, Forgetful())
    assert caught.value.exit_code == 70


@pytest.mark.parametrize(
    ("content", "reason", "expected"),
    [
        ("text", "stop", ("text", "stop")),
        ("", "stop", ("", "stop")),
        ("half a te", "length", (None, "length")),
        (None, "missing", (None, "missing")),
        ("lone \ud800", "stop", (None, "invalid")),
    ],
)
def test_only_a_whole_readable_reply_has_content(content, reason, expected):
    reply = Reply(ASKED[0].key, content, reason, None, "m", 5, structured=True)

    joined = exchange(ASKED[0], reply, "t")

    assert (joined.content, joined.finish_reason) == expected
    assert joined.structured


def test_a_plan_carried_out_leaves_exchanges_in_order_and_what_they_cost(tmp_path):
    plan = Plan(Scripted({"2": "rejected"}, backwards=True), "t", ASKED, 0.5)
    out, metrics = tmp_path / "out.jsonl", tmp_path / "spend.json"

    carry_out(plan, work=tmp_path, out=out, metrics=metrics)

    assert [row.pmid for row in read_jsonl(out, Exchange)] == ["1", "2", "3", "4", "5"]
    assert read_json(metrics) == {
        "usd": 0.0001,
        "usd_lost": 0.0,
        "requests": 5,
        "attempts": 5,
        "failed": 1,
        "prompt_tokens": 45,
        "cached_tokens": 0,
        "completion_tokens": 10,
    }


def test_what_was_in_flight_at_a_kill_is_counted_at_the_most_it_can_have_cost(tmp_path):
    with open_store(tmp_path / "replies" / "t") as store:
        store.sending([Intent(ASKED[0].key, 1000)])  # and nobody knows what came of it
    plan = Plan(Scripted(), "t", ASKED, 0.0)

    carry_out(plan, work=tmp_path, out=tmp_path / "out.jsonl", metrics=tmp_path / "spend.json")

    found = read_json(tmp_path / "spend.json")
    assert (found["usd"], found["usd_lost"], found["attempts"]) == (0.0011, 0.001, 6)


def test_A38_a_changed_setting_asks_anew_and_says_how_many(tmp_path, caplog):
    with open_store(tmp_path) as store, caplog.at_level(logging.INFO):
        put(store, Scripted())
        put(store, Scripted(), wanted=ASKED[:3] + OTHER[:2])

    assert [r.message for r in caplog.records if "to ask" in r.message] == [
        "5 requests: 5 to ask, 0 answered before",
        "5 requests: 2 to ask, 3 answered before",
    ]
