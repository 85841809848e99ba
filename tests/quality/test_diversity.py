"""Numbers of variety, each against the plain way to compute it."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.quality.diversity import (
    distinct,
    edit_distance,
    edit_share,
    histogram,
    quartiles,
    sampled,
    self_bleu,
    spread,
)
from medslm.quality.text import words

tokens = st.lists(st.sampled_from("abcd"), max_size=12).map(tuple)


def plain_bleu(text, others):
    """BLEU-4 against several references as Papineni et al. 2002 write it, add-one above single words."""
    logs = []
    for n in range(1, 5):
        own = Counter(text[i : i + n] for i in range(len(text) - n + 1))
        if not own:
            break
        there = [Counter(o[i : i + n] for i in range(len(o) - n + 1)) for o in others]
        matched = sum(min(c, max(o[gram] for o in there)) for gram, c in own.items())
        if n == 1 and not matched:
            return 0.0
        logs.append(math.log((matched + (n > 1)) / (own.total() + (n > 1))))
    closest = min((len(o) for o in others), key=lambda size: (abs(size - len(text)), size))
    penalty = 1.0 if len(text) >= closest else math.exp(1 - closest / len(text))
    return penalty * math.exp(sum(logs) / len(logs))


def plain_distance(one, other):
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        new = [i]
        for j, b in enumerate(other, start=1):
            new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (a != b)))
        row = new
    return row[-1]


@given(st.lists(tokens, max_size=8))
def test_self_bleu_is_the_mean_over_comparisons_with_all_others(texts):
    spoken = [text for text in texts if text]
    if len(spoken) < 2:
        assert self_bleu(texts) is None
        return

    scores = [plain_bleu(t, spoken[:i] + spoken[i + 1 :]) for i, t in enumerate(spoken)]

    assert self_bleu(texts) == pytest.approx(sum(scores) / len(scores), abs=1e-6)


def test_self_bleu_knows_the_same_from_the_different():
    assert self_bleu([words("Is the stay of adults shorter?")] * 3) == 1.0
    assert self_bleu([words("Is it so?"), words("Does that help?")]) == 0.0


@given(tokens, tokens)
def test_the_edit_distance_is_that_of_the_table(one, other):
    assert edit_distance(one, other) == plain_distance(one, other) == edit_distance(other, one)
    assert edit_share(one, one) == 0
    assert 0 <= edit_share(one, other) <= 1


def test_the_edit_distance_of_long_texts_is_exact_too():
    one = [str(n % 97) for n in range(300)]
    other = [str(n % 89) for n in range(250)]

    assert edit_distance(one, other) == plain_distance(one, other)


@given(st.lists(tokens, max_size=8), st.integers(1, 3))
def test_distinct_is_a_share_that_repeating_lowers(texts, n):
    found = distinct(texts, n)
    grams = [t[i : i + n] for t in texts for i in range(len(t) - n + 1)]

    assert found == (round(len(set(grams)) / len(grams), 6) if grams else None)
    if found is not None:
        assert distinct(texts * 2, n) == pytest.approx(found / 2, abs=1e-6)


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 7))
def test_a_histogram_counts_every_value_once_and_has_no_gaps(values, width):
    found = histogram(values, width)

    assert sum(found.values()) == len(values)
    assert all(low % width == 0 for low in found)
    assert all(high - low == width for low, high in zip(found, [*found][1:], strict=False))
    for low, count in found.items():
        assert count == sum(low <= value < low + width for value in values)


def test_quartiles_are_values_that_are_there():
    assert quartiles([4, 1, 3, 2]) == {"n": 4, "mean": 2.5, "q25": 1, "median": 2, "q75": 3}
    assert quartiles([]) == {"n": 0, "mean": None, "q25": None, "median": None, "q75": None}


def test_the_spread_is_the_mean_over_all_pairs():
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    pairs = [1 - float(a @ b) for a, b in combinations(vectors, 2)]

    assert spread(vectors) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    assert spread(np.repeat(vectors[:1], 3, axis=0)) == pytest.approx(0, abs=1e-6)
    assert spread(vectors[:1]) is None


def test_a_sample_is_drawn_by_id_alone():
    texts = {str(n): (str(n),) for n in range(50)}
    backwards = dict(reversed(texts.items()))

    assert list(sampled(texts, 10).items()) == list(sampled(backwards, 10).items())
    assert len(sampled(texts, 10)) == 10
    assert sampled(texts, None) == texts
    assert sampled(texts, 99) == texts
    assert len(set(sampled({**texts, "new": ()}, 10)) - set(sampled(texts, 10))) <= 1


def test_ten_times_the_texts_take_at_most_some_twenty_times_as_long():
    """Exact, but linear: comparing pairs would take a hundred times as long."""

    def seconds(count):
        texts = [tuple(f"w{(n * k) % 997}" for k in range(1, 16)) for n in range(count)]
        started = time.process_time()
        assert self_bleu(texts) is not None
        return time.process_time() - started

    few, many = min(seconds(400) for _ in range(3)), seconds(4000)

    assert many < 40 * few
