"""Every pair is kept or dropped, whatever the order, and held-out questions stay out."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage
from medslm.errors import DataError, LeakageError
from medslm.quality.check import check
from medslm.quality.leakage import GRAM, HeldOut, held_out_question
from medslm.quality.rules import Drop
from tests.factories import pair, question
from tests.quality.builders import LIMITS, ballot, limits

TRAIN = [question(str(n)) for n in range(1, 5)]
DEV = [question("50", question="Is the dose of aspirin lower after a stroke in elderly men?")]
TEST = [question("90", question="Do early ward rounds lower the rate of falls among older women?")]


def sift(pairs, *, train=TRAIN, unlabelled=(), dev=DEV, test=TEST, knobs=LIMITS, votes=None):
    votes = [ballot(p) for p in pairs] if votes is None else votes
    parts = {"train": train, "unlabelled": list(unlabelled), "dev": dev, "test": test}
    return check(pairs, votes, **parts, limits=knobs)


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


def test_b06_train_and_test_may_not_share_a_question():
    with pytest.raises(LeakageError, match="share 1 PMID"):
        sift([], test=TRAIN[:1])


def test_train_may_not_repeat_a_question():
    with pytest.raises(DataError, match="repeat 1"):
        sift([], train=[*TRAIN, TRAIN[0]])


LABELLED_BY_TEACHER = {"strategy": "pseudo-label", "long_answer": "It did."}


def pseudo_label(source, index=0, **overrides):
    known = {**LABELLED_BY_TEACHER, "question": source.question, **overrides}
    return pair(source.pmid, index, **known)


def test_the_label_of_an_unlabelled_question_is_kept_and_two_labels_are_not():
    apart = (Passage("RESULTS", "The treatment shortened the stay of 40 adults by two days."),)
    source = question("70", sections=apart, answer=None)

    one = sift([pseudo_label(source)], unlabelled=[source])
    same = sift([pseudo_label(source, n) for n in (0, 1)], unlabelled=[source])
    other = [pseudo_label(source), pseudo_label(source, 1, answer="no")]
    differing = sift(other, unlabelled=[source])

    assert one.dropped == []
    assert why(same) == {"local-rewrite:70:1": {Drop.DUPLICATE}}
    assert differing.kept == []
    assert all(Drop.CONTRADICTION in reasons for reasons in why(differing).values())


def test_the_label_of_a_labelled_question_is_kept_where_the_expert_agrees():
    agrees, differs = pseudo_label(TRAIN[0]), pseudo_label(TRAIN[1], answer="maybe")

    checked = sift([agrees, differs])

    assert checked.kept == [agrees]
    assert why(checked) == {differs.id: {Drop.CONTRADICTION}}


@pytest.mark.parametrize("copied", ["question", "sections"])
def test_an_unlabelled_study_that_is_a_held_out_one_under_another_pmid_leaks(copied):
    long = question("90", sections=(Passage("RESULTS", " ".join(map(str, range(60)))),))
    again = dataclasses.replace(
        question("70", question=DEV[0].question, answer=None), **{copied: getattr(long, copied)}
    )
    apart = dataclasses.replace(again, sections=TRAIN[0].sections, question=DEV[0].question)

    found = sift([pseudo_label(again)], unlabelled=[again], dev=[], test=[long])
    control = sift([pseudo_label(apart)], unlabelled=[apart], dev=[], test=[long])

    assert why(found) == {"local-rewrite:70:0": {Drop.LEAKS_HELD_OUT}}
    assert control.dropped == []


@pytest.mark.parametrize("part", ["dev", "test"])
def test_no_unlabelled_question_may_be_a_held_out_one(part):
    with pytest.raises(LeakageError, match="unlabelled and dev and test share 1 PMID"):
        sift([], unlabelled=[question("60")], **{part: [question("60")]})


def turned(index=0, **overrides):
    known = {
        "strategy": "counterfactual",
        "question": TRAIN[0].question,
        "context": TRAIN[0].context.replace("4.1", "6.1"),
        "answer": "no",
    }
    return pair("1", index, **{**known, **overrides})


def test_the_same_question_about_two_edits_is_asked_twice_and_about_one_edit_once():
    other = turned(1, context=TRAIN[0].context.replace("4.1", "5.8"), answer="maybe")

    assert sift([turned(), other]).dropped == []
    assert why(sift([turned(), turned(1)])) == {turned(1).id: {Drop.DUPLICATE}}
    assert why(sift([turned(), turned(1, answer="maybe")])) == {
        turned().id: {Drop.CONTRADICTION},
        turned(1).id: {Drop.DUPLICATE, Drop.CONTRADICTION},
    }


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
    pairs = [pair("1", answer="yes"), pair("2", strategy="new", answer="maybe")]

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

    held_out = [question(str(n), question=t) for n, t in enumerate(texts)]
    index = HeldOut(held_out, text=held_out_question, overlap=bound)

    runs = grams(words(asked), GRAM)
    expected = any(jaccard(runs, grams(words(text), GRAM)) >= bound for text in texts)
    assert index.has(asked, beside="none") == expected
