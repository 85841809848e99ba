"""Pairs about one abstract: which repeat each other, which contradict, and who stays."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from medslm.quality.rules import Drop
from medslm.quality.siblings import _candidates, contradicting, repeating
from medslm.quality.text import jaccard
from tests.factories import pair


def asked(*texts, answers=(), pmid="1"):
    claims = answers or ["yes"] * len(texts)
    return [
        pair(pmid, n, strategy="new", question=text, answer=claims[n])
        for n, text in enumerate(texts)
    ]


def by_id(one):
    return (one.id,)


def repeats(pairs, bound=0.8):
    return {i.rpartition(":")[2]: why for i, why in repeating(pairs, bound, by_id).items()}


def test_the_same_content_in_another_order_is_asked_twice():
    pairs = asked(
        "Does early walking reduce the stay of adults?",
        "Is the stay of adults reduced by early walking?",
        "Does early walking reduce the pain of adults?",
        "Does early walking not reduce the stay of adults?",
        "Does early walking reduce the stay of 12 adults?",
        "DOES early walking reduce, the stay of adults?",
    )

    assert repeats(pairs) == {"1": Drop.NEAR_DUPLICATE, "5": Drop.DUPLICATE}


def test_near_questions_with_two_answers_are_no_duplicates():
    swapped = ("Is walking better than bathing?", "Is bathing better than walking?")

    assert repeats(asked(*swapped)) == {"1": Drop.NEAR_DUPLICATE}
    assert repeats(asked(*swapped, answers=["yes", "no"])) == {}
    assert contradicting(asked(*swapped, answers=["yes", "no"]), 0.85) == set()


def test_near_identical_questions_with_two_answers_contradict_each_other():
    long = "Is the stay of adults on the ward shorter after early walking on the first day there"
    pairs = asked(f"{long}?", f"{long} or not?", answers=["yes", "no"])

    assert contradicting(pairs, 0.85) == {one.id for one in pairs}
    assert contradicting(asked(f"{long}?", f"{long} or not?"), 0.85) == set()
    apart = [pairs[0], pair("2", 1, strategy="new", question=f"{long} or not?", answer="no")]
    assert contradicting(apart, 0.85) == set()


def test_a_chain_of_near_ones_loses_only_what_repeats_a_kept_one():
    words = [
        "alpha",
        "bravo",
        "cargo",
        "delta",
        "eagle",
        "fancy",
        "giant",
        "house",
        "igloo",
        "jolly",
    ]
    chain = [" ".join(words[i : i + 8]) for i in range(3)]

    assert repeats(asked(*chain), bound=0.75) == {"1": Drop.NEAR_DUPLICATE}


SETS = st.lists(st.frozensets(st.sampled_from("abcdefghij"), max_size=8), max_size=8)


@given(SETS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_no_pair_of_sets_that_overlaps_enough_is_passed_over(sets, bound):
    proposed = set(_candidates(sets, bound))

    for i, j in combinations(range(len(sets)), 2):
        if jaccard(sets[i], sets[j]) >= bound:
            assert (i, j) in proposed


TEXTS = st.lists(
    st.lists(
        st.sampled_from(["alpha", "bravo", "cargo", "delta", "not", "7"]), min_size=1, max_size=5
    ).map(" ".join),
    max_size=7,
)


@given(TEXTS, st.randoms(use_true_random=False))
def test_who_stays_depends_on_rank_alone_and_nobody_kept_repeats_another(texts, rng: random.Random):
    pairs = asked(*texts, answers=[rng.choice(["yes", "no"]) for _ in texts])

    gone = repeating(pairs, 0.6, by_id)
    again = repeating(rng.sample(pairs, len(pairs)), 0.6, by_id)

    kept = [one for one in pairs if one.id not in gone]
    assert gone == again
    assert repeating(kept, 0.6, by_id) == {}


def test_of_many_different_questions_hardly_any_two_are_compared():
    rng = random.Random(0)
    sets = [frozenset(rng.sample(range(5_000), 9)) for _ in range(2_000)]

    assert sum(1 for _ in _candidates(sets, 0.8)) < 2 * len(sets)  # of two million
