from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.completion import (
    ErrorBody,
    Peek,
    peek,
    read_completion,
    read_usage,
)
from medslm.teacher.retry import BadBody
from tests.teacher.fake_endpoint import says

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def text(body: bytes) -> str:
    """What the wire makes of a body."""
    return body.decode("utf-8", "surrogateescape")


def body(**changes: object) -> bytes:
    return json.dumps({**json.loads(says("text").body), **changes}).encode()


def test_a_whole_completion_is_read():
    found = read_completion(text(says("text").body))

    assert found == ("text", "stop", {"prompt_tokens": 7, "completion_tokens": 3}, "m")


@pytest.mark.parametrize(
    ("answer", "content", "reason"),
    [
        (says("half", finish_reason="length"), "half", "length"),
        (says(None, finish_reason="content_filter"), None, "content_filter"),
        (says(None, refusal="I cannot"), None, "refusal"),
        (says(""), "", "stop"),
    ],
)
def test_an_unwanted_end_has_its_name(answer, content, reason):
    assert read_completion(text(answer.body))[:2] == (content, reason)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b'{"choices": [{"mess',
        b"<html>",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"choices": 1, "choices": 2}',
        b"\xff",
        b"[" * 100_000,
        body(choices=[]),
        body(choices="oops"),
        body(choices=[None]),
        body(choices=[{"finish_reason": "stop"}]),
        body(choices=[{"finish_reason": "stop", "message": {"content": [1]}}]),
        says(None).body,
        says("text", finish_reason="tool_calls").body,
        says("text", finish_reason=None).body,
    ],
    ids=lambda b: repr(b[:40]),
)
def test_a_body_that_is_no_completion_is_refused(bad):
    with pytest.raises(BadBody):
        read_completion(text(bad))


def test_an_error_inside_a_200_keeps_its_code():
    with pytest.raises(ErrorBody) as caught:
        read_completion('{"error": {"code": "insufficient_quota", "message": "no money"}}')

    assert (caught.value.code, str(caught.value)) == ("insufficient_quota", "no money")


@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda t: json.dumps(t).encode()))
def test_any_body_is_read_or_refused(data):
    with pytest.raises((BadBody, ErrorBody)):
        read_completion(text(data))


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        (None, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, {"completion_tokens": 2}),
        ({"prompt_tokens": 1e999, "completion_tokens": 2.0}, None),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
            {"prompt_tokens": 9, "cached_tokens": 4},
        ),
    ],
)
def test_only_plain_counts_are_usage(value, usage):
    assert read_usage(value) == usage


def test_usage_and_id_are_seen_in_any_body_that_has_them():
    whole = text(says("text").body)

    assert peek(whole).usage == peek(text(body(choices=[]))).usage == USAGE
    assert peek(whole).id == json.loads(whole)["id"]
    assert not peek(whole).is_error
    assert peek('{"error": "no"}') == Peek(None, None, True)


@given(st.text(max_size=100))
def test_a_body_without_them_has_neither(data):
    assert peek(data) == Peek(None, None, False)
