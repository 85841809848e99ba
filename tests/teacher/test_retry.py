from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.retry import Meaning, backoff_s, blames_schema, classify, retry_after_s

NOON = "Sun, 22 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "codes", "meaning"),
    [
        (401, (), Meaning.CREDENTIALS),
        (403, (), Meaning.CREDENTIALS),
        (404, ("model_not_found",), Meaning.CREDENTIALS),
        (402, (), Meaning.MONEY),
        (429, ("insufficient_quota", None), Meaning.MONEY),
        (429, (None, "insufficient_quota"), Meaning.MONEY),
        (429, ("organization_spend_limit_exceeded", None), Meaning.MONEY),
        (429, ("rate_limit_exceeded", "requests"), Meaning.AGAIN),
        (429, (), Meaning.AGAIN),
        (408, (), Meaning.AGAIN),
        (409, (), Meaning.AGAIN),
        (500, (), Meaning.AGAIN),
        (529, (), Meaning.AGAIN),
        (307, (), Meaning.REDIRECT),
        (400, ("content_filter", None), Meaning.FILTERED),
        (400, (), Meaning.REJECTED),
        (422, (), Meaning.REJECTED),
        (418, (), Meaning.REJECTED),
        (405, (), Meaning.REJECTED),
        (499, (), Meaning.REJECTED),
        (599, (), Meaning.AGAIN),
        (300, (), Meaning.REDIRECT),
        (399, (), Meaning.REDIRECT),
        (299, (), Meaning.REJECTED),
        (400, ("credit_balance_exhausted", None), Meaning.MONEY),
        (400, ("project_spend_limit_exceeded", None), Meaning.MONEY),
        (400, ("billing_hard_limit_reached", None), Meaning.MONEY),
        (400, ("billing_not_active", None), Meaning.MONEY),
        (400, ("invalid_api_key", None), Meaning.CREDENTIALS),
        (400, ("model_not_found", None), Meaning.CREDENTIALS),
        (400, ("content_policy_violation", None), Meaning.FILTERED),
        (400, ("credit", "quota"), Meaning.REJECTED),
    ],
)
def test_every_status_has_its_meaning(status, codes, meaning):
    assert classify(status, *codes) is meaning


def test_the_names_that_records_carry_are_fixed():
    """They stand in journals as finish reasons: renaming one would split old counts from new."""
    assert [meaning.value for meaning in Meaning] == [
        "credentials",
        "money",
        "redirect",
        "again",
        "content_filter",
        "rejected",
    ]


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        (None, None, None),
        ("2", None, 2.0),
        ("0", None, 0.0),
        ("-0.5", None, None),
        ("0.5", None, 0.5),
        ("-3", None, None),
        ("1e309", None, None),
        ("nan", None, None),
        ("soon", None, None),
        ("Sun, 22 Nov 2026 12:00:07 GMT", NOON, 7.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", NOON, 0.0),
        ("Sun, 22 Nov 2026 12:00:07 GMT", None, None),
        ("Sun, 22 Nov 2026 12:00:07 GMT", "yesterday", None),
    ],
)
def test_retry_after_counts_from_the_servers_own_clock(value, date, seconds):
    assert retry_after_s(value, date) == seconds


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_backoff_stays_below_its_cap(attempt, draw):
    assert 0 <= backoff_s(attempt, first_s=0.5, cap_s=30, draw=draw) <= 30


def test_the_backoff_of_a_patient_job_stays_a_number():
    assert backoff_s(100_000, first_s=1.0, cap_s=1e300, draw=0.5) == 2.0**59


def test_the_backoff_doubles_its_range():
    assert [backoff_s(n, first_s=1, cap_s=5, draw=0.5) for n in (1, 2, 3, 4)] == [0.5, 1, 2, 2.5]


@pytest.mark.parametrize(
    ("message", "blamed"),
    [
        ("HTTP 400: 'response_format' of type json_schema is not supported", True),
        ("HTTP 422: extra field: Response_Format", True),
        ("HTTP 400: Structured Outputs are not available for this model", True),
        ("HTTP 400: json_schema is not known here", True),
        ("HTTP 400: temperature must be 1", False),
    ],
)
def test_a_rejection_for_the_schema_names_it(message, blamed):
    assert blames_schema(message) is blamed
