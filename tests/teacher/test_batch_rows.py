from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.batch_rows import Answer as AnswerRow
from medslm.teacher.batch_rows import Damaged, Harvest, Refusal, read_row
from medslm.teacher.retry import Meaning


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", Damaged(None)),
        (b"[]", Damaged(None)),
        (b"\xff", Damaged(None)),
        (b'{"custom_id": 5}', Damaged(None)),
        (b'{"custom_id": "k"}', Damaged("k")),
        (b'{"custom_id": "k", "response": {"status_code": true}}', Damaged("k")),
        (b'{"custom_id": "k", "response": {"body": {}}}', Damaged("k")),
        (
            b'{"custom_id": "k", "response": {"status_code": 200, "body": {"b": 1, "a": NaN}}}',
            Damaged(None),
        ),
        (
            b'{"custom_id": "k", "response": {"status_code": 200, "body": {"b": "\xc3\xa9", "a": 1}}}',
            AnswerRow("k", '{"a": 1, "b": "\\u00e9"}', ""),
        ),
        (
            b'{"custom_id": "k", "response": {"status_code": 429, "body": "busy"}}',
            Refusal("k", Meaning.AGAIN, "HTTP 429: no reason given"),
        ),
        (
            b'{"custom_id": "k", "response": {"status_code": 400, "body": {"error": {"code": '
            b'"content_filter", "message": "a\\nb"}}}}',
            Refusal("k", Meaning.FILTERED, "HTTP 400: a b"),
        ),
        (
            b'{"custom_id": "k", "response": null, "error": {"code": "batch_expired"}}',
            Refusal("k", Meaning.AGAIN, "batch_expired: no reason given"),
        ),
    ],
)
def test_a_row_is_read_or_named_for_what_it_is(line, expected):
    assert read_row(line) == expected


@given(st.binary(max_size=200))
def test_no_line_makes_the_reader_fail(line):
    assert read_row(line)[0] is None or isinstance(read_row(line)[0], str)


@given(
    st.lists(
        st.one_of(
            st.builds(AnswerRow, st.sampled_from("abcdxy"), st.just("{}"), st.just("")),
            st.builds(Refusal, st.sampled_from("abcdxy"), st.just(Meaning.AGAIN), st.just("no")),
            st.builds(Damaged, st.sampled_from(["a", "b", "x", None])),
        ),
        max_size=12,
    ),
    st.frozensets(st.sampled_from("abcd")),
    st.booleans(),
)
def test_every_reservation_of_a_batch_is_ended_in_exactly_one_way(rows, stored, all_missing):
    micros = {"a": 1, "b": 10, "c": 100, "d": 1000}
    harvest = Harvest(dict(micros), stored)

    taken = {found[0].key: found[1] for r in rows if (found := harvest.take(r)) is not None}
    refused_keys = {r.key: reserved for r, reserved in harvest.refused}
    lost = harvest.lost(all_missing=all_missing)

    ends = [taken, refused_keys, lost, harvest.missing, {k: micros[k] for k in stored}]
    assert sorted(key for end in ends for key in end) == sorted(micros)
    assert sum(sum(end.values()) for end in ends) == sum(micros.values())
    assert not (all_missing and harvest.missing)
