from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from importlib import resources
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from medslm.errors import ParamsError
from medslm.teacher.prices import (
    MODES,
    Figures,
    Price,
    PriceKnob,
    as_of,
    charge,
    family,
    is_openai,
    listing,
    most,
    price_for,
    price_in,
    shutdown_of,
)
from medslm.teacher.prompts import Strategy
from medslm.teacher.schemas import response_format

OPENAI = "https://api.openai.com/v1"
MINI = Price(input=750_000, cached=75_000, output=4_500_000)
LUNA = Price(input=100_000, cached=10_000, output=500_000, written=125_000)
FIGURES = Figures(input=Decimal("0.2"), cached=Decimal("0.05"), output=Decimal("0.8"))

LIST: dict[str, Any] = json.loads(
    (resources.files("medslm.teacher") / "prices.json").read_text(encoding="utf-8")
)


def section(price: object, model: str = "gpt-5.4-mini", mode: str = "sync") -> Any:
    return SimpleNamespace(price=price, model=model, mode=mode)


# ---- the list


def test_the_list_is_dated_and_says_where_every_row_is_from():
    newest = date.fromisoformat(as_of())

    assert len(LIST["models"]) > 15
    for name, row in LIST["models"].items():
        assert set(row) == {"checked", "source", *MODES}, name
        assert row["source"] in LIST["sources"], name
        assert date(2026, 10, 1) <= date.fromisoformat(row["checked"]) <= newest, name


@pytest.mark.parametrize("model", sorted(LIST["models"]))
def test_a_row_is_a_price_in_every_mode_and_none_is_dearer_than_now(model):
    found = listing(model)
    assert found is not None
    sync = found.modes["sync"]
    assert sync is not None

    for price in filter(None, found.modes.values()):
        assert 0 < price.cached <= price.input <= sync.input
        assert price.input < price.output <= sync.output
        assert price.written is None or price.input < price.written
    assert found.modes["batch"] is not None


@pytest.mark.parametrize(
    ("model", "mode", "price"),
    [
        ("gpt-5.4-mini", "sync", MINI),
        ("gpt-5.4-mini", "flex", Price(375_000, 37_500, 2_250_000)),
        ("gpt-5.4-mini", "batch", Price(375_000, 37_500, 2_250_000)),
        ("gpt-6-luna", "sync", LUNA),
        ("gpt-6-luna", "batch", Price(50_000, 5_000, 250_000, 62_500)),
        ("gpt-4.1-mini", "sync", Price(400_000, 100_000, 1_600_000)),
    ],
)
def test_figures_are_micro_dollars_per_million_tokens(model, mode, price):
    assert price_in(mode, "listed", model, OPENAI) == price


def test_where_no_price_for_cached_tokens_is_given_there_is_no_discount():
    assert LIST["models"]["gpt-4.1-mini"]["batch"]["cached"] is None

    assert price_in("batch", "listed", "gpt-4.1-mini", OPENAI) == Price(200_000, 200_000, 800_000)


def test_a_dated_snapshot_is_priced_as_its_family():
    snapshot = listing("gpt-4.1-mini-2025-04-14")

    assert snapshot == listing("gpt-4.1-mini")
    assert snapshot is not None
    assert snapshot.model == "gpt-4.1-mini"
    assert snapshot.checked == LIST["models"]["gpt-4.1-mini"]["checked"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("gpt-4.1-mini-2025-04-14-ft", "gpt-4.1-mini-2025-04-14-ft"),
        ("gpt-4-0613", "gpt-4-0613"),
    ],
)
def test_only_a_date_at_the_end_is_a_snapshot(model, name):
    assert family(model) == name


@pytest.mark.parametrize("model", ["gpt-4.1-minimal", "gpt-5.6-sol", "gpt", "my-tune", ""])
def test_a_model_that_is_not_listed_has_no_row(model):
    assert listing(model) is None


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-4.1-nano", date(2026, 10, 23)),
        ("gpt-5-mini", date(2026, 12, 11)),
        ("gpt-4o-mini-2024-07-18", date(2027, 1, 14)),
        ("gpt-5.4-nano", date(2027, 4, 1)),
        ("gpt-5.4-mini", None),
    ],
)
def test_announced_ends_are_known(model, day):
    assert shutdown_of(model) == day


def test_every_announced_end_is_a_date():
    assert len(LIST["shutdown"]) > 10
    for model in LIST["shutdown"]:
        assert shutdown_of(model) is not None


# ---- which price


def test_a_free_teacher_has_no_price_wherever_it_is():
    assert price_for(section("free"), "mine", "http://localhost:8000/v1") is None
    assert price_for(section("free"), "mine", OPENAI) is None


@pytest.mark.parametrize("mode", MODES)
def test_figures_of_ones_own_hold_for_any_server_model_and_mode(mode):
    found = price_for(section(FIGURES, model="m", mode=mode), "mine", "http://localhost/v1")

    assert found == Price(200_000, 50_000, 800_000)


def test_a_figure_finer_than_a_micro_dollar_is_rounded_up():
    figures = Figures(input=Decimal("0.0000001"), cached=Decimal(0), output=Decimal("1.0000009"))

    assert price_in("sync", figures, "m", OPENAI) == Price(1, 0, 1_000_001)


def test_a_listed_price_follows_the_mode():
    assert price_for(section("listed"), "api", OPENAI) == MINI
    assert price_for(section("listed", mode="flex"), "api", OPENAI) != MINI


def test_an_unknown_model_is_refused_with_what_to_write():
    with pytest.raises(ParamsError) as caught:
        price_for(section("listed", model="gpt-99"), "api", OPENAI)

    assert str(caught.value) == (
        f"teachers.api.price: listed: gpt-99 is not in the price list of {as_of()}; write price: "
        "{input: DOLLARS, cached: DOLLARS, output: DOLLARS} (per million tokens), or price: free"
    )


def test_the_list_is_not_for_another_server():
    with pytest.raises(ParamsError) as caught:
        price_for(section("listed"), "vllm", "http://10.0.0.7:8000/v1")

    assert str(caught.value) == (
        "teachers.vllm.price: listed: these are OpenAI's own prices, and http://10.0.0.7:8000/v1 "
        "is another server; write price: {input: DOLLARS, cached: DOLLARS, output: DOLLARS} "
        "(per million tokens), or price: free"
    )


def test_a_mode_that_a_model_is_not_offered_in_is_refused_with_those_it_is():
    with pytest.raises(ParamsError) as caught:
        price_for(section("listed", model="gpt-4.1-mini", mode="flex"), "api", OPENAI)

    assert str(caught.value) == (
        "teachers.api.mode: flex: not offered for gpt-4.1-mini; choose sync or batch"
    )


@pytest.mark.parametrize(
    ("url", "own"),
    [
        (OPENAI, True),
        ("https://api.openai.com", True),
        ("https://api.openai.com.evil.example/v1", False),
        ("http://api.openai.com/v1", False),
        ("https://example.org/https://api.openai.com/v1", False),
    ],
)
def test_only_openais_own_address_is_openais(url, own):
    assert is_openai(url) is own


@pytest.mark.parametrize("value", ["listed", "free", {"input": 0.75, "cached": 0, "output": 4.5}])
def test_the_knob_takes_two_words_or_three_figures(value):
    knob = TypeAdapter(PriceKnob).validate_python(value)

    assert knob == value or knob == Figures(input=Decimal("0.75"), cached=Decimal(0), output=4.5)


@pytest.mark.parametrize(
    "value",
    [
        "cheap",
        {"input": 1, "output": 1},
        {"input": -1, "cached": 0, "output": 1},
        {"input": float("nan"), "cached": 0, "output": 1},
        {"input": 1, "cached": 0, "output": float("inf")},
        {"input": 1, "cached": 0, "output": -0.1},
        {"input": 1, "cached": -0.1, "output": 1},
        {"input": 1, "cached": 0, "output": 1, "tax": 1},
    ],
)
def test_the_knob_takes_nothing_else(value):
    with pytest.raises(ValidationError):
        TypeAdapter(PriceKnob).validate_python(value)


def test_three_equal_ways_to_write_nothing_cost_nothing():
    """Figures of 0 are a price of 0, which a cap still goes with; free is no price at all."""
    zero = Figures(input=Decimal(0), cached=Decimal(0), output=Decimal(0))
    price = price_in("sync", zero, "m", OPENAI)

    assert price == Price(0, 0, 0)
    assert charge(price, usage(10, 10), 5) == 0
    assert most(["text"], 10, price) == 0


# ---- what a reply cost


def usage(prompt: object, completion: object, **more: object) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(
    ("price", "counts", "micros"),
    [
        (MINI, usage(1_000_000, 0), 750_000),
        (MINI, usage(1_000_000, 1_000_000), 5_250_000),
        (MINI, usage(1_000, 100), 1_200),
        (MINI, usage(1_000, 100, cached_tokens=0), 1_200),
        (MINI, usage(1_000, 100, cached_tokens=800), 660),
        (MINI, usage(1_000, 100, cached_tokens=1_000), 525),
        (MINI, usage(1_000, 100, cache_write_tokens=1_000), 1_200),
        (LUNA, usage(1_000, 100, cache_write_tokens=1_000), 175),
        (LUNA, usage(1_000, 100, cached_tokens=400, cache_write_tokens=600), 129),
        (MINI, usage(1, 0), 1),
        (MINI, usage(10_000_000, 10_000_000), 52_500_000),
    ],
)
def test_the_servers_count_is_charged_rounded_up(price, counts, micros):
    assert charge(price, counts, 0) == micros
    assert charge(price, counts, 10**9) == micros


@pytest.mark.parametrize(
    "counts",
    [
        None,
        {},
        usage(None, 10),
        usage(10, None),
        {"prompt_tokens": 10},
        {"completion_tokens": 10},
        usage(-1, 10),
        usage(10, -1),
        usage(0, 10),
        usage(True, 10),
        usage(10, False),
        usage(10.0, 10),
        usage(10, float("nan")),
        usage("10", 10),
        usage(10_000_001, 10),
        usage(10, 10_000_001),
        usage(10, 10, cached_tokens=11),
        usage(10, 10, cached_tokens=-1),
        usage(10, 10, cached_tokens=None),
        usage(10, 10, cached_tokens=True),
        usage(10, 10, cache_write_tokens=11),
        usage(10, 10, cached_tokens=6, cache_write_tokens=5),
    ],
    ids=str,
)
def test_a_count_that_cannot_be_is_charged_at_its_reservation(counts):
    assert charge(MINI, counts, 4321) == 4321
    assert charge(MINI, usage(10, 10), 4321) == 53


def test_nothing_is_charged_where_nothing_has_a_price():
    assert charge(None, usage(10, 10), 99) == 0
    assert charge(None, None, 99) == 0


@given(
    st.integers(1, 10**7),
    st.integers(0, 10**7),
    st.floats(0, 1),
    st.sampled_from([MINI, LUNA, Price(1, 0, 1)]),
)
def test_a_charge_is_never_below_the_exact_bill_and_less_than_a_micro_dollar_above(
    sent, output, share, price
):
    cached = int(sent * share)
    exact = Decimal((sent - cached) * price.input + cached * price.cached + output * price.output)

    micros = charge(price, usage(sent, output, cached_tokens=cached), 0)

    assert 0 <= micros - exact / 1_000_000 < 1


# ---- the most it can cost


def test_the_most_counts_every_byte_as_a_token_and_allows_for_what_a_server_adds():
    bytes_sent = 4 + 8 + 2 * 16 + 1024

    assert most(["four", "été à"], 0, Price(1_000_000, 0, 0)) == bytes_sent
    assert most(["four", "été à"], 7, Price(1_000_000, 0, 2_000_000)) == bytes_sent + 14


def test_the_most_is_at_the_dearest_price_that_a_prompt_token_can_have():
    written = Price(input=1_000_000, cached=0, output=0, written=1_250_000)
    cached = Price(input=0, cached=3_000_000, output=0)

    assert most([""], 0, written) == 1300
    assert most([""], 0, cached) == 3120


def test_half_a_surrogate_pair_in_an_abstract_has_a_size_too():
    assert most(["\ud83d"], 0, Price(1_000_000, 0, 0)) == 3 + 16 + 1024


def test_the_most_is_rounded_up_and_nothing_where_nothing_has_a_price():
    assert most([], 1, Price(0, 0, 1)) == 1
    assert most(["long"], 1_000, None) == 0


def test_the_allowance_of_a_request_holds_every_schema():
    for strategy in get_args(Strategy):
        assert len(json.dumps(response_format(strategy))) < 1024, strategy


@given(
    st.lists(st.text(max_size=40), max_size=4),
    st.integers(0, 500),
    st.data(),
    st.sampled_from([MINI, LUNA, Price(5, 9, 1)]),
)
def test_no_tokenizer_can_make_a_request_cost_more_than_its_most(texts, max_tokens, data, price):
    size = sum(len(text.encode()) for text in texts)
    sent = data.draw(st.integers(1, size + 4 * len(texts) + 1000))
    cached = data.draw(st.integers(0, sent))
    written = data.draw(st.integers(0, sent - cached))
    output = data.draw(st.integers(0, max_tokens))

    counts = usage(sent, output, cached_tokens=cached, cache_write_tokens=written)

    assert charge(price, counts, 0) <= most(texts, max_tokens, price)
