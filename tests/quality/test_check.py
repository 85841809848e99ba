"""Every pair is kept or dropped, whatever the order, and held-out questions stay out."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError, LeakageError
from medslm.quality.check import check
from medslm.quality.leakage import GRAM, HeldOut
from medslm.quality.rules import Drop
from tests.factories import pair, question
from tests.quality.builders import LIMITS, ballot, limits

TRAIN = [question(str(n)) for n in range(1, 5)]
DEV = [question("50", question="Is the dose of aspirin lower after a stroke in elderly men?")]
TEST = [question("90", question="Do early ward rounds lower the rate of falls among older women?")]


def sift(pairs, *, train=TRAIN, dev=DEV, test=TEST, knobs=LIMITS, votes=None):
    votes = [ballot(p) for p in pairs] if votes is None else votes
    return check(pairs, votes, train=train, dev=dev, test=test, limits=knobs)


def why(checked):
    return {row.pair.id: set(row.reasons) for row in checked.dropped}


def test_good_pairs_are_kept_in_their_order():
    pairs = [pair("3"), pair("1"), pair("2")]

    assert sift(pairs) == (pairs, [])


def test_nothing_to_check_is_nothing_kept():
    assert sift([]) == ([], [])


def test_the_first_of_equal_questions_stays():
    pairs = [pair(index=n, question=q) for n, q in enumerate(["Is stay of adults shorter?"] * 2)]
    pairs.append(pair(index=2, question="IS  stay of adults shorter ?"))

    checked = sift(pairs)

    assert [p.id for p in checked.kept] == ["local-rewrite:1:0"]
    assert why(checked) == {p.id: {Drop.DUPLICATE} for p in pairs[1:]}


def test_a_bad_twin_drops_no_good_one():
    bad = pair(index=0, long_answer="<b>bold</b>")
    good = pair(index=1)

    checked = sift([bad, good])

    assert checked.kept == [good]
    assert why(checked) == {bad.id: {Drop.MARKUP, Drop.DUPLICATE}}


def test_the_same_question_about_two_abstracts_is_no_duplicate():
    text = "Is the stay of adults in hospital shorter?"

    assert sift([pair("1", question=text), pair("2", question=text)]).dropped == []


def test_contradicting_pairs_are_all_dropped():
    text = "Is the hospital stay of these treated adults shorter?"
    pairs = [
        pair(index=0, strategy="new", question=text, answer="yes"),
        pair(index=1, strategy="new", question=text.replace("?", " ?"), answer="no"),
        pair(index=2, strategy="new", question="Was care usual in 120 adults?", answer="no"),
    ]

    checked = sift(pairs)

    assert checked.kept == pairs[2:]
    assert Drop.CONTRADICTION in why(checked)[pairs[0].id]
    assert Drop.CONTRADICTION in why(checked)[pairs[1].id]


def test_a_pair_of_a_test_question_stops_everything_and_is_listed():
    with pytest.raises(LeakageError, match=r"1 pair.*local-rewrite:90:0") as caught:
        sift([pair("1"), pair("90")])

    assert caught.value.exit_code == 12


@pytest.mark.parametrize("stranger", ["50", "77"])
def test_a_pair_from_outside_train_leaks(stranger):
    assert why(sift([pair(stranger)])) == {f"local-rewrite:{stranger}:0": {Drop.LEAKS_HELD_OUT}}


@pytest.mark.parametrize("held_out", [DEV[0], TEST[0]])
def test_a_held_out_question_in_other_clothes_leaks(held_out):
    for text in (held_out.question.upper(), held_out.question.replace("?", ", really?")):
        found = why(sift([pair(strategy="new", question=text)]))

        assert Drop.LEAKS_HELD_OUT in found["local-rewrite:1:0"]


def test_a_question_that_shares_some_words_with_a_held_out_one_does_not_leak():
    text = "Do early ward rounds lower the stay of adults in hospital?"

    assert sift([pair(question=text)]).dropped == []


def test_with_several_folds_a_pairs_own_source_may_be_a_dev_question():
    asked = pair("1", question="Does treatment 1 shorten the hospital stay of adults at all?")

    other = dataclasses.replace(TRAIN[0], pmid="51")

    own_source_held_out = sift([asked], dev=[TRAIN[0]])
    another_held_out = sift([asked], dev=[other])

    assert own_source_held_out.dropped == []
    assert why(another_held_out) == {asked.id: {Drop.LEAKS_HELD_OUT}}


def test_train_and_test_may_not_share_a_question():
    with pytest.raises(LeakageError, match="share 1 PMID"):
        sift([], test=TRAIN[:1])


def test_train_may_not_repeat_a_question():
    with pytest.raises(DataError, match="repeats 1"):
        sift([], train=[*TRAIN, TRAIN[0]])


def test_pairs_with_one_id_are_refused():
    with pytest.raises(DataError, match="repeat"):
        sift([pair(), pair()])


def test_ballots_of_other_pairs_are_refused():
    with pytest.raises(DataError, match="do not match"):
        sift([pair()], votes=[])
    with pytest.raises(DataError, match="do not match"):
        sift([pair()], votes=[ballot(pair()), ballot(pair("2"))])
    with pytest.raises(DataError, match="do not match"):
        sift([pair()], votes=[ballot(pair()), ballot(pair())])


def test_a_claim_without_support_is_dropped_where_params_say_so():
    pairs = [pair("1", answer="yes"), pair("2", answer="maybe")]

    strict = sift(pairs, knobs=limits(min_support=0.25))

    assert strict.kept == pairs[:1]
    assert why(strict) == {pairs[1].id: {Drop.UNSUPPORTED_BY_VOTES}}
    assert sift(pairs).dropped == []


QUESTIONS = st.sampled_from(
    [
        "Is the stay of adults shorter?",
        "IS the stay of adults shorter ?",
        "Does treatment 1 shorten the hospital stay of adults?",
        "Was care usual in most of these adults?",
        "Does the stay <b> of adults change?",
        DEV[0].question,
        TEST[0].question,
        "nothing",
    ]
)
PAIRS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "50", "77"]), QUESTIONS, st.sampled_from(["yes", "no"])),
    max_size=8,
).map(
    lambda rows: [
        pair(pmid, n, strategy="new", question=text, answer=answer)
        for n, (pmid, text, answer) in enumerate(rows)
    ]
)


@given(PAIRS)
def test_every_pair_lands_on_one_side_and_a_dropped_one_has_reasons(pairs):
    checked = sift(pairs)

    both = [*checked.kept, *(row.pair for row in checked.dropped)]
    assert sorted(both, key=lambda p: p.id) == sorted(pairs, key=lambda p: p.id)
    assert all(row.reasons for row in checked.dropped)


@given(PAIRS)
def test_checking_what_was_kept_keeps_it_all(pairs):
    kept = sift(pairs).kept

    assert sift(kept) == (kept, [])


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_pairs_changes_no_verdict(pairs, rng: random.Random):
    shuffled = rng.sample(pairs, len(pairs))

    one, other = sift(pairs), sift(shuffled)

    assert {p.id for p in one.kept} == {p.id for p in other.kept}
    assert why(one) == why(other)


@given(PAIRS)
def test_nothing_kept_comes_from_outside_train_or_equals_a_held_out_question(pairs):
    held_out = {DEV[0].question, TEST[0].question}

    for kept in sift(pairs).kept:
        assert kept.pmid in {q.pmid for q in TRAIN}
        assert kept.question not in held_out


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=14).map(" ".join)


@given(st.lists(WORDS, max_size=5), WORDS, st.sampled_from([0.1, 0.5, 1.0]))
def test_the_index_finds_what_comparing_one_by_one_finds(texts, asked, bound):
    from medslm.quality.text import grams, jaccard, words

    index = HeldOut([question(str(n), question=t) for n, t in enumerate(texts)], overlap=bound)

    runs = grams(words(asked), GRAM)
    expected = any(jaccard(runs, grams(words(text), GRAM)) >= bound for text in texts)
    assert index.has(asked, beside="none") == expected
