"""One pool of all asks: nothing twice, nothing contradicted, whoever comes first."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.quality.pool import counts_of, pool
from tests.factories import pair


def of(ask, *rows, pmid="1"):
    """Return the kept pairs of an ask: question and answer each."""
    return [
        dataclasses.replace(
            pair(pmid, n, strategy="new", teacher=ask, question=text, answer=answer),
            id=f"{ask}:{pmid}:{n}",
        )
        for n, (text, answer) in enumerate(rows)
    ]


def pooled(*, doubted=frozenset(), **asks):
    return pool(asks, near_identical=0.85, near_duplicate=0.8, doubted=frozenset(doubted))


def why(result):
    return {row.pair.id: row.reasons for row in result.dropped}


WALK = "Does early walking reduce the stay of adults?"
WALKED = "Is the stay of adults reduced by early walking?"
PAIN = "Is pain of adults lower after the walk?"


def test_what_another_ask_asks_as_well_is_kept_once():
    result = pooled(a=of("a", (WALK, "yes"), (PAIN, "no")), b=of("b", (WALK, "yes")), c=of("c"))

    [gone] = result.dropped
    assert gone.pair.question == WALK
    assert gone.reasons == ("duplicate",)
    assert {ask: len(pairs) for ask, pairs in result.kept.items()} in (
        {"a": 2, "b": 0, "c": 0},
        {"a": 1, "b": 1, "c": 0},
    )


def test_near_duplicates_of_two_teachers_are_kept_once_and_two_studies_are_two():
    near = pooled(a=of("a", (WALK, "yes")), b=of("b", (WALKED, "yes")))
    apart = pooled(a=of("a", (WALK, "yes")), b=of("b", (WALKED, "yes"), pmid="2"))

    assert set(why(near).values()) == {("near_duplicate",)}
    assert len(near.dropped) == 1
    assert apart.dropped == []


def test_teachers_that_answer_one_question_differently_both_lose_it():
    result = pooled(a=of("a", (WALK, "yes"), (PAIN, "no")), b=of("b", (WALK, "no")))

    assert why(result) == {"a:1:0": ("contradiction",), "b:1:0": ("contradiction",)}
    assert [one.question for one in result.kept["a"]] == [PAIN]


def test_a_doubted_pair_goes_first_and_takes_no_other_with_it():
    asks = {"a": of("a", (WALK, "yes")), "b": of("b", (WALK, "no"))}

    result = pooled(doubted={"b:1:0", "unknown"}, **asks)

    assert why(result) == {"b:1:0": ("doubted_label",)}
    assert result.kept == {"a": asks["a"], "b": []}


def test_no_ask_wins_by_its_name():
    winners = set()
    for n in range(8):
        result = pooled(
            a=of("a", (WALK, "yes"), pmid=str(n)), b=of("b", (WALK, "yes"), pmid=str(n))
        )
        winners |= {ask for ask, pairs in result.kept.items() if pairs}

    assert winners == {"a", "b"}


def test_an_id_in_two_asks_is_refused():
    with pytest.raises(DataError, match="more than one ask"):
        pooled(a=of("a", (WALK, "yes")), b=of("a", (WALK, "yes")))


def test_the_counts_add_up():
    asks = {"a": of("a", (WALK, "yes"), (PAIN, "no")), "b": of("b", (WALK, "no")), "c": []}

    counts = counts_of(asks, pooled(**asks))

    assert (counts["checked"], counts["kept"], counts["dropped"]) == (3, 1, 2)
    assert counts["asks"]["a"] == {
        "checked": 2,
        "kept": 1,
        "dropped": 1,
        "reasons": {"contradiction": 1},
        "answers": {"yes": 0, "no": 1, "maybe": 0},
    }
    assert counts["asks"]["c"]["checked"] == 0


ROWS = st.lists(
    st.tuples(st.sampled_from([WALK, WALKED, PAIN, WALK.upper()]), st.sampled_from(["yes", "no"])),
    max_size=4,
)
ASKS = st.dictionaries(st.sampled_from("abc"), ROWS, max_size=3).map(
    lambda asks: {ask: of(ask, *rows) for ask, rows in asks.items()}
)


@given(ASKS, st.randoms(use_true_random=False))
def test_the_order_of_asks_and_pairs_changes_no_verdict_and_nothing_is_lost(
    asks, rng: random.Random
):
    one = pooled(**asks)
    names = rng.sample(sorted(asks), len(asks))
    other = pooled(**{ask: rng.sample(asks[ask], len(asks[ask])) for ask in names})

    assert one.dropped == other.dropped
    ids = [p.id for pairs in one.kept.values() for p in pairs] + [r.pair.id for r in one.dropped]
    assert sorted(ids) == sorted(p.id for pairs in asks.values() for p in pairs)


@given(ASKS)
def test_pooling_what_was_kept_keeps_it_all(asks):
    kept = pooled(**asks).kept

    assert pooled(**kept) == (kept, [])
