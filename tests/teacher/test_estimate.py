from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.teacher.estimate import (
    LATENCY_S,
    NOTHING,
    Range,
    cost,
    dollars,
    minutes,
    output_tokens,
    prompt_tokens,
    shared_tokens,
    total,
    verdict,
)
from medslm.teacher.prices import Price, charge, most
from medslm.teacher.prompts import Strategy, load_prompt
from medslm.teacher.schemas import response_format
from tests.factories import question
from tests.teacher.asked import requests

PRICE = Price(input=1_000_000, cached=100_000, output=4_000_000)
WRITES = Price(input=1_000_000, cached=100_000, output=4_000_000, written=1_250_000)


# ---- tokens


def test_a_prompts_tokens_are_its_characters_by_a_measured_ratio_plus_what_a_chat_adds():
    (request,) = requests([question()], per_question=1)
    chars = sum(len(message.content) for message in request.messages)
    assert len(request.messages) == 2

    found = prompt_tokens([request], None)

    around = 2 * 4 + 3
    assert found == Range(
        around + math.ceil(chars / 4.8),
        around + math.ceil(chars / 4.55),
        around + math.ceil(chars / 4.1),
    )


def test_the_schema_is_part_of_every_prompt():
    asked = requests()
    without = prompt_tokens(asked, None)

    held = prompt_tokens(asked, response_format("rewrite"))

    assert 4 * 50 < held.expected - without.expected < 4 * 120


def test_no_request_has_no_tokens():
    assert prompt_tokens([], None) == NOTHING
    assert output_tokens("new", 0, max_tokens=100, seen=[]) == (NOTHING, False)


def test_more_requests_have_more_tokens():
    asked = requests()

    assert prompt_tokens(asked, None) > prompt_tokens(asked[:-1], None)


def test_every_strategy_has_a_usual_length_that_its_schema_can_need():
    for strategy in get_args(Strategy):
        (low, expected, high), learned = output_tokens(strategy, 1, max_tokens=500, seen=[])

        assert 0 < low < expected < high == 500, strategy
        assert not learned


def test_without_replies_the_bounds_are_a_terse_teacher_and_all_of_max_tokens():
    found, _ = output_tokens("rewrite", 100, max_tokens=300, seen=[200] * 19)

    assert found == Range(4575, 6100, 30_000)


def test_no_reply_is_longer_than_max_tokens():
    found, _ = output_tokens("rewrite", 100, max_tokens=50, seen=[])

    assert found == Range(4575, 5000, 5000)


def test_twenty_replies_say_more_than_the_usual_length():
    found, learned = output_tokens("rewrite", 100, max_tokens=300, seen=[200] * 20)

    assert learned
    assert found == Range(19_000, 20_000, 21_000)


def test_replies_that_differ_widen_the_range_to_two_standard_errors():
    found, _ = output_tokens("rewrite", 1000, max_tokens=1000, seen=[100, 300] * 10)

    off = 2 * 102.5978 / math.sqrt(20)
    assert found.expected == 200_000
    assert found.low == pytest.approx(1000 * (200 - off), abs=2)
    assert found.high == pytest.approx(1000 * (200 + off), abs=2)


def test_a_learned_range_stays_between_nothing_and_max_tokens():
    found, _ = output_tokens("answer", 10, max_tokens=60, seen=[1] * 19 + [100_000])

    assert found == Range(0, 600, 600)


# ---- what prompts share


def test_worked_examples_before_every_question_are_shared():
    prompt = load_prompt("answer", "chat", "v1")
    long = "A sentence about adults who were observed for a year after the operation. " * 30
    shots = [question(str(n), long_answer=long) for n in range(90, 94)]
    long_shots = [
        question(s.pmid, question=f"{long[:900]}{n}?", sections=s.sections * 12)
        for n, s in enumerate(shots)
    ]
    asked = requests(
        [question("1"), question("2"), question("3")],
        prompt=prompt,
        strategy="answer",
        per_question=1,
        shots=long_shots,
    )
    chars = [sum(len(message.content) for message in request.messages) for request in asked]

    found = shared_tokens(asked)

    assert 1024 <= found < min(chars) / 4


def test_instructions_alone_are_too_short_to_be_cached():
    assert shared_tokens(requests([question("1"), question("2")])) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_requests_share_nothing(count):
    assert shared_tokens(requests([question()], per_question=1)[:count]) == 0


# ---- money


def test_a_cost_is_tokens_times_price_rounded_up():
    found = cost(Range(1_000, 2_000, 3_000), Range(10, 20, 30), PRICE, cached=0)

    assert found == Range(1_040, 2_080, 3_120)
    assert cost(Range(1, 1, 1), NOTHING, Price(1, 1, 1), cached=0) == Range(1, 1, 1)


def test_only_the_lower_bound_counts_on_the_cache():
    prompt = Range(1_000, 1_000, 1_000)

    assert cost(prompt, NOTHING, PRICE, cached=800) == Range(280, 1_000, 1_000)
    assert cost(prompt, NOTHING, PRICE, cached=5_000) == Range(100, 1_000, 1_000)


def test_the_upper_bound_has_every_prompt_written_to_the_cache_where_that_costs_more():
    prompt = Range(1_000, 1_000, 1_000)

    assert cost(prompt, NOTHING, WRITES, cached=0) == Range(1_000, 1_000, 1_250)


def test_what_is_free_costs_nothing():
    assert cost(Range(1, 2, 3), Range(1, 2, 3), None, cached=0) == NOTHING


@given(st.integers(1, 10**5), st.integers(0, 10**4), st.sampled_from([PRICE, WRITES]))
def test_one_requests_cost_is_what_would_be_charged_for_it(sent, output, price):
    known = cost(Range(sent, sent, sent), Range(output, output, output), price, cached=0)

    usage = {"prompt_tokens": sent, "completion_tokens": output}
    assert known.expected == charge(price, usage, 0)
    assert known.low <= known.expected <= known.high


def test_the_expected_cost_of_a_request_is_below_what_is_reserved_for_it():
    (request,) = requests([question()], per_question=1)
    prompt = prompt_tokens([request], None)
    output, _ = output_tokens("rewrite", 1, max_tokens=300, seen=[])

    high = cost(prompt, output, WRITES, cached=0).high

    assert high < most([message.content for message in request.messages], 300, WRITES)


def test_a_sum_is_unknown_if_a_part_of_it_is():
    assert total([Range(1, 2, 3), Range(10, 20, 30)]) == Range(11, 22, 33)
    assert total([Range(1, 2, 3), None]) is None
    assert total([]) == NOTHING
    assert total([NOTHING]) == NOTHING


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "$0.00"),
        (1, "$0.0000"),
        (123_456, "$0.1235"),
        (999_999, "$1.0000"),
        (1_000_000, "$1.00"),
        (5_230_000, "$5.23"),
        (1_234_567_890, "$1,234.57"),
    ],
)
def test_dollars_have_cents_and_four_decimals_below_one(micros, text):
    assert dollars(micros) == text


# ---- time


def test_the_narrowest_limit_decides_how_long_it_takes():
    assert LATENCY_S == 5

    assert minutes(600, 10**6, concurrency=10, rpm=None, tpm=None) == 5
    assert minutes(600, 10**6, concurrency=10, rpm=60, tpm=None) == 10
    assert minutes(600, 10**6, concurrency=10, rpm=60, tpm=50_000) == 20
    assert minutes(600, 10**6, concurrency=1, rpm=60, tpm=50_000) == 50
    assert minutes(0, 0, concurrency=1, rpm=1, tpm=1) == 0


# ---- the cap


def said(needed: Range, *, cap: int | None = 5_000_000, spent: int = 0, largest: int = 0) -> str:
    return verdict(100, needed, cap=cap, spent=spent, largest=largest)


def test_what_surely_fits_fits():
    assert said(Range(1, 2, 5_000_000)) == "fits under max_usd $5.00 ($0.00 spent before)"


def test_the_last_request_needs_room_for_its_reservation():
    assert said(Range(1, 2, 4_900_000), largest=100_000).startswith("fits under")
    assert said(Range(1, 2, 4_900_001), largest=100_000).startswith("should fit under")


def test_what_is_expected_to_fit_may_stop_at_worst():
    assert said(Range(1, 4_000_000, 10_000_000)) == (
        "should fit under max_usd $5.00 ($0.00 spent before); at worst it would stop after about "
        "50 of 100 requests"
    )


def test_what_cannot_fit_says_where_it_would_stop():
    assert said(Range(1, 6_000_000, 9_000_000), spent=3_500_000) == (
        "would stop at max_usd $5.00 ($3.50 spent before) after about 25 of 100 requests; "
        "what is answered by then is kept"
    )
    assert "after about 20 of" in said(
        Range(1, 6_000_000, 9_000_000), spent=3_500_000, largest=300_000
    )


@pytest.mark.parametrize("spent", [5_000_000, 6_000_000])
def test_with_nothing_left_nothing_is_asked(spent):
    assert "after about 0 of 100 requests" in said(Range(1, 2, 3), spent=spent, largest=1)


def test_with_nothing_to_ask_nothing_can_stop():
    found = verdict(0, NOTHING, cap=1_000_000, spent=9_000_000, largest=0)

    assert found == "nothing to ask; max_usd $1.00 ($9.00 spent before)"


def test_a_missing_cap_is_said():
    assert said(Range(1, 2, 3), cap=None).startswith("max_usd is null: nothing paid is sent")
