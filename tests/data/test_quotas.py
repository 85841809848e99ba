"""No answer is above its quota, every real example stays, and order decides nothing."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.mix import OVER_QUOTA, Mix
from medslm.data.quotas import room, within
from medslm.data.records import ANSWERS
from tests.factories import example

counts = st.fixed_dictionaries({answer: st.integers(0, 300) for answer in ANSWERS})
shares = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(
    lambda parts: {a: part / sum(parts) for a, part in zip(ANSWERS, parts, strict=True)}
)
caps = st.one_of(shares, st.dictionaries(st.sampled_from(ANSWERS[:2]), st.floats(0.05, 1)))


def examples(real, generated):
    rows = [example(f"{a}{n}", answer=a) for a in ANSWERS for n in range(real[a])]
    return rows + [
        example(f"{a}{n}", answer=a, source="ask", pair_id=f"ask:{a}:{n}")
        for a in ANSWERS
        for n in range(generated[a])
    ]


def numbers(mixed, *, source):
    found = Counter(e.answer for e in mixed.examples if (e.source == "real") == (source == "real"))
    return {answer: found[answer] for answer in ANSWERS}


def test_quotas_that_can_be_reached_are_reached_with_as_many_as_there_are():
    real = {"yes": 248, "no": 152, "maybe": 50}
    offered = {"yes": 300, "no": 300, "maybe": 150}

    found = room(real, offered, {"yes": 0.45, "no": 0.35, "maybe": 0.2})

    assert found == {"yes": 207, "no": 202, "maybe": 150}  # of 1,009: all maybes are in it


def test_a_cap_on_one_answer_leaves_the_others_whole():
    real = {"yes": 50, "no": 30, "maybe": 20}
    offered = {"yes": 200, "no": 30, "maybe": 20}

    assert room(real, offered, {"yes": 0.5}) == {"yes": 51, "no": 30, "maybe": 20}  # 101 of 201


def test_nothing_is_added_to_real_examples_that_are_above_their_quota_already():
    real = {"yes": 90, "no": 5, "maybe": 5}

    assert room(real, {"yes": 50, "no": 5, "maybe": 0}, {"yes": 0.5})["yes"] == 0
    assert room(real, {"yes": 50, "no": 50, "maybe": 50}, {"yes": 0.5})["yes"] == 21  # 111 of 221


@given(counts, counts, caps)
def test_no_answer_is_above_its_quota_unless_it_is_so_by_real_ones_alone(real, offered, quotas):
    found = room(real, offered, quotas)

    total = sum(real.values()) + sum(found.values())
    for answer in ANSWERS:
        assert 0 <= found[answer] <= offered[answer]
        above = real[answer] + found[answer] - quotas.get(answer, 1) * total
        assert found[answer] == 0 or above < 1  # less than one example: no set has half of one


def test_quotas_that_add_up_to_one_are_kept_to_less_than_one_example():
    real, offered = {"yes": 4, "no": 1, "maybe": 2}, {"yes": 62, "no": 16, "maybe": 10}

    found = room(real, offered, {"yes": 0.45, "no": 0.35, "maybe": 0.2})

    total = 7 + sum(found.values())
    assert found["no"] == 16  # all there are
    assert 17 - 0.35 * total < 1
    # shares that no size makes whole leave out no more than rounding does
    real, offered = {"yes": 55, "no": 34, "maybe": 11}, {"yes": 552, "no": 338, "maybe": 110}
    shares = {"yes": 0.552, "no": 0.338, "maybe": 0.11}
    assert sum(room(real, offered, shares).values()) >= 990


few = st.fixed_dictionaries({answer: st.integers(0, 7) for answer in ANSWERS})


@given(few, few, caps)
def test_no_larger_set_is_within_the_quotas(real, offered, quotas):
    def fits(chosen):
        total = sum(real.values()) + sum(chosen.values())
        return all(
            chosen[a] == 0 or real[a] + chosen[a] < quotas.get(a, 1) * total + 1 - 1e-9
            for a in ANSWERS
        )

    sizes = itertools.product(*(range(offered[a] + 1) for a in ANSWERS))
    every = [dict(zip(ANSWERS, size, strict=True)) for size in sizes]
    largest = max(sum(chosen.values()) for chosen in every if fits(chosen))

    assert sum(room(real, offered, quotas).values()) == largest


@given(counts, counts, caps, st.sampled_from(ANSWERS))
def test_nothing_is_left_out_that_would_fit(real, offered, quotas, more):
    found = room(real, offered, quotas)
    if found[more] == offered[more]:
        return
    total = sum(real.values()) + sum(found.values())

    assert real[more] + found[more] + 1 >= quotas[more] * total + 1 - 1e-6


@given(counts, shares)
def test_without_generated_examples_nothing_is_left_out(real, quotas):
    assert room(real, dict.fromkeys(ANSWERS, 0), quotas) == dict.fromkeys(ANSWERS, 0)


def test_quotas_above_the_shares_that_are_there_leave_nothing_out():
    real, generated = dict.fromkeys(ANSWERS, 10), dict.fromkeys(ANSWERS, 20)
    whole = Mix(examples(real, generated), {"duplicate": 1})

    assert within(whole, {"yes": 0.5}, seed=0) == whole


@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_order_decides_nothing_and_what_is_left_out_is_counted(shuffle, seed):
    rows = examples({"yes": 4, "no": 3, "maybe": 1}, {"yes": 9, "no": 9, "maybe": 3})
    shuffled = rows.copy()
    shuffle.shuffle(shuffled)
    quotas = {"yes": 0.45, "no": 0.35, "maybe": 0.2}

    one = within(Mix(rows, {}), quotas, seed=seed)
    other = within(Mix(shuffled, {}), quotas, seed=seed)

    assert set(one.examples) == set(other.examples)
    assert other.examples == [e for e in shuffled if e in set(one.examples)]
    assert len(one.examples) + one.left_out[OVER_QUOTA] == len(rows)
    assert numbers(one, source="real") == {"yes": 4, "no": 3, "maybe": 1}


def test_another_seed_draws_others_and_a_new_pair_moves_at_most_one():
    rows = examples(dict.fromkeys(ANSWERS, 5), {"yes": 40, "no": 5, "maybe": 5})
    quotas = {"yes": 0.5}

    def drawn(rows, seed=0):
        return {e.pair_id for e in within(Mix(rows, {}), quotas, seed=seed).examples}

    assert drawn(rows) == drawn(random.Random(1).sample(rows, len(rows))) != drawn(rows, seed=1)
    new = example("yes99", answer="yes", source="ask", pair_id="ask:yes:99")
    assert len(drawn([*rows, new]) - drawn(rows)) <= 1


@pytest.mark.parametrize("quota", [0.001, 0.999])
def test_quotas_close_to_their_ends_settle(quota):
    rest = (1 - quota) / 2
    quotas = {"yes": quota, "no": rest, "maybe": rest}

    found = room(dict.fromkeys(ANSWERS, 1), dict.fromkeys(ANSWERS, 100_000), quotas)

    assert sum(found.values()) > 0
