from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import pytest

from medslm.errors import MedslmError, TeacherDown, TooManyFailures
from medslm.teacher.asking import Asked, ask, exchange
from medslm.teacher.replies import Reply
from medslm.teacher.requests import Request
from medslm.teacher.store import Store, open_store
from tests.factories import question
from tests.teacher.test_requests import requests


@dataclasses.dataclass
class Scripted:
    """A teacher whose replies are written in the test: reasons by PMID, an order, an end."""

    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    backwards: bool = False
    stops_after: int | None = None
    asked: list[str] = dataclasses.field(default_factory=list)

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for n, request in enumerate(reversed(requests) if self.backwards else requests):
            if n == self.stops_after:
                raise TeacherDown("gone")
            self.asked.append(request.key)
            reason = self.reasons.get(request.pmid, "stop")
            yield Reply(request.key, f"for {request.pmid}", reason, None, "m", n)


ASKED = requests([question(str(n)) for n in range(1, 6)], per_question=1)


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
        first = put(store, teacher)
    with open_store(tmp_path) as store:
        second = put(store, teacher)

    assert (first.asked, first.reused, second.asked, second.reused) == (5, 0, 0, 5)
    assert len(teacher.asked) == 5
    assert second.exchanges == first.exchanges


def test_the_order_of_completion_changes_nothing(tmp_path):
    with open_store(tmp_path / "a") as forwards, open_store(tmp_path / "b") as backwards:
        assert put(forwards, Scripted()) == put(backwards, Scripted(backwards=True))


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

    assert first.failed == second.failed == {"length": 1, "rejected": 1}
    assert teacher.asked == []
    assert [e.content for e in second.exchanges] == ["for 1", None, "for 3", None, "for 5"]


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
        def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
            yield Reply(requests[0].key, "x", "stop", None, "m", 0)

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
    joined = exchange(ASKED[0], Reply(ASKED[0].key, content, reason, None, "m", 5), "t")

    assert (joined.content, joined.finish_reason) == expected


def test_progress_is_logged_every_ten_seconds(tmp_path, caplog):
    ticks = iter(range(0, 100, 4))

    with open_store(tmp_path) as store, caplog.at_level(logging.INFO):
        ask(ASKED, store=store, teacher=Scripted(), teacher_name="t", max_failed_share=0,
            clock=lambda: float(next(ticks)))  # fmt: skip

    said = [r.message for r in caplog.records if "left" in r.message]
    assert said == ["3 of 5 answered, 0 tokens/s, about 8 s left"]
