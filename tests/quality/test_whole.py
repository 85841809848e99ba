"""From replies to the pool: nothing is lost, order changes nothing, and what was kept stays kept."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from medslm.quality.check import check
from medslm.quality.guard import Guard
from medslm.quality.parse import parse_all
from medslm.quality.pool import pool
from tests.factories import exchange, question
from tests.quality.builders import LIMITS, ballot
from tests.quality.test_guard import BOUNDS, DEV, TEST

SOURCES = [question(str(n)) for n in (1, 2, 3)]
GUARD = Guard([DEV], [TEST], BOUNDS)
ASKED = [
    "Is the stay of adults shorter with the treatment?",
    "With the treatment, is the stay of adults shorter?",
    "IS the stay of adults shorter with the treatment ?",
    "Is care of 120 adults usual?",
    "Is the stay <b> shorter?",
    "\u00bfEs la estancia de los adultos menor?",
    DEV.question,
    "Do early ward rounds lower the rate of falls among younger men from two cities?",
    "",
    "nothing",
]
REPLIES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["{", "question: Is care usual?\nanswer: no", '{"answer": "yes"}']),
    st.fixed_dictionaries(
        {
            "question": st.sampled_from(ASKED),
            "answer": st.sampled_from(["yes", "no", "Maybe.", "perhaps", 1]),
            "long_answer": st.sampled_from(["", "Stay was 4.1 days.", "No, it was 4.1 days."]),
        }
    ).map(json.dumps),
)
ROWS = st.lists(st.tuples(st.sampled_from("123"), st.sampled_from("ab"), REPLIES), max_size=9).map(
    list
)


class Went(NamedTuple):
    """Where the replies of all asks went, by an id each."""

    kept: set[str]
    dropped: dict[str, tuple[str, ...]]
    unread: set[str]
    pairs: list


def went(rows, *, shuffle: random.Random | None = None) -> Went:
    """Send replies of two asks through everything; a row's number is its index within the ask."""
    numbered = list(enumerate(rows))
    if shuffle:
        shuffle.shuffle(numbered)
    kept_of, dropped, unread = {}, {}, set()
    for ask in "ab":
        replies = [
            exchange(pmid, n, strategy="new", prompt="new/chat-v1", content=content)
            for n, (pmid, of, content) in numbered
            if of == ask
        ]
        parsed = parse_all(replies, SOURCES, ask)
        unread |= {f"{ask}:{row.pmid}:{row.index}" for row in parsed.unreadable}
        checked = checked_of(parsed.pairs)
        kept_of[ask] = checked.kept
        dropped |= {row.pair.id: row.reasons for row in checked.dropped}
    pooled = pooled_of(kept_of)
    dropped |= {row.pair.id: row.reasons for row in pooled.dropped}
    kept = [pair for pairs in pooled.kept.values() for pair in pairs]
    return Went({pair.id for pair in kept}, dropped, unread, kept)


def checked_of(pairs):
    near = {match.pair_id for match in GUARD.matches(pairs)}
    parts = {"train": SOURCES, "unlabelled": [], "dev": [DEV], "test": [TEST]}
    return check(pairs, [ballot(p) for p in pairs], **parts, limits=LIMITS, leaking=near)


def pooled_of(kept):
    return pool(kept, near_identical=0.85, near_duplicate=0.8, doubted=frozenset())


@settings(max_examples=60)
@given(ROWS)
def test_kept_and_dropped_and_unread_are_all_replies_each_once(rows):
    found = went(rows)

    ids = [*found.kept, *found.dropped, *found.unread]
    assert sorted(ids) == sorted(f"{ask}:{pmid}:{n}" for n, (pmid, ask, _) in enumerate(rows))
    assert all(found.dropped.values())


@settings(max_examples=60)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_replies_changes_no_verdict(rows, rng):
    one, other = went(rows), went(rows, shuffle=rng)

    assert (one.kept, one.dropped, one.unread) == (other.kept, other.dropped, other.unread)


@settings(max_examples=60)
@given(ROWS)
def test_checking_and_pooling_what_was_kept_keeps_it_all(rows):
    kept = went(rows).pairs

    assert checked_of(kept) == (kept, [])
    assert pooled_of({"all": kept}).kept == {"all": kept}


def test_the_replies_of_these_tests_end_in_every_way():
    good = json.dumps({"question": ASKED[0], "answer": "yes", "long_answer": ""})
    bad = json.dumps({"question": ASKED[4], "answer": "yes", "long_answer": ""})
    twin = json.dumps({"question": ASKED[1], "answer": "yes", "long_answer": ""})

    found = went([("1", "a", good), ("1", "b", twin), ("2", "a", bad), ("3", "a", "{")])

    assert (len(found.kept), len(found.dropped), len(found.unread)) == (1, 2, 1)
    assert {("markup",), ("near_duplicate",)} == set(found.dropped.values())
