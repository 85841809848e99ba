from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.mix import mix
from medslm.errors import DataError, LeakageError
from tests.factories import pair, question

TRAIN = [question(pmid="1"), question(pmid="2", answer="no")]
UNLABELLED = [question(pmid="7", answer=None, long_answer="A canary sang.")]


def made(kept, train=TRAIN, unlabelled=UNLABELLED):
    return mix(train, unlabelled, kept)


def labelled(source, index=0, **overrides):
    known = {"strategy": "pseudo-label", "question": source.question, **overrides}
    return pair(source.pmid, index, **known)


def generated(mixed):
    return [(e.source, e.pmid, e.answer) for e in mixed.examples[len(TRAIN) :]]


def test_real_questions_come_first_and_none_is_lost():
    other = "Is the stay of adults the same with both?"

    examples, left_out = made(
        {"b": [pair("2")], "a": [pair("1"), pair("1", 1, question=other, answer="no")]}
    )

    assert [(e.source, e.pmid, e.answer) for e in examples] == [
        ("real", "1", "yes"),
        ("real", "2", "no"),
        ("b", "2", "yes"),
        ("a", "1", "yes"),
        ("a", "1", "no"),
    ]
    assert examples[2].context == TRAIN[1].context
    assert examples[0].pair_id is None
    assert examples[2].pair_id == "local-rewrite:2:0"
    assert left_out == {}


def test_a_pair_about_an_abstract_of_its_own_is_trained_on_with_that_one():
    turned = pair("1", question=TRAIN[0].question, context="Stay was longer.", answer="no")

    *real, last = made({"a": [turned]}).examples

    assert [e.context for e in real] == [q.context for q in TRAIN]
    assert (last.context, last.question, last.answer) == (
        "Stay was longer.",
        TRAIN[0].question,
        "no",
    )


def test_the_label_of_an_unlabelled_question_is_trained_on_without_its_conclusion():
    (source,) = UNLABELLED

    mixed = made({"a": [labelled(source, answer="maybe")]})

    assert generated(mixed) == [("a", "7", "maybe")]
    example = mixed.examples[-1]
    assert (example.question, example.context) == (source.question, source.context)
    assert not any("canary" in str(value) for value in dataclasses.astuple(example))


def test_a_real_question_is_not_trained_on_again():
    agrees, differs = labelled(TRAIN[0], answer="yes"), labelled(TRAIN[1], answer="maybe")
    shouted = labelled(TRAIN[0], 1, question=TRAIN[0].question.upper(), answer="yes")

    mixed = made({"a": [agrees, differs, shouted]})

    assert generated(mixed) == []
    assert mixed.left_out == {"contradiction": 1, "duplicate": 2}


def test_two_asks_that_label_a_question_alike_give_one_example_and_differently_none():
    (source,) = UNLABELLED

    alike = made({"a": [labelled(source)], "b": [labelled(source)]})
    apart = made({"a": [labelled(source)], "b": [labelled(source, answer="no")]})

    assert (generated(alike), alike.left_out) == ([("a", "7", "yes")], {"duplicate": 1})
    assert (generated(apart), apart.left_out) == ([], {"contradiction": 2})


def test_a_pair_about_a_held_out_abstract_is_refused():
    with pytest.raises(LeakageError, match="PMID 3, which is not a training one"):
        made({"a": [pair("3")]})


def test_an_empty_training_split_is_refused():
    with pytest.raises(DataError, match="nothing to train on"):
        made({}, train=[])


def test_a_training_question_without_an_answer_is_refused():
    with pytest.raises(DataError, match="PMID 7: a training question without an answer"):
        made({}, train=UNLABELLED)


PAIRS = st.lists(
    st.tuples(
        st.sampled_from([*TRAIN, *UNLABELLED]),
        st.sampled_from(["Is stay shorter?", "IS stay  shorter?", None]),
        st.sampled_from(["yes", "no"]),
        st.sampled_from([None, "Stay was longer."]),
    ),
    max_size=6,
).map(
    lambda rows: [
        pair(q.pmid, n, question=text or q.question, answer=answer, context=context)
        for n, (q, text, answer, context) in enumerate(rows)
    ]
)


@given(PAIRS, PAIRS)
def test_no_question_is_trained_on_twice_and_every_pair_is_accounted_for(one, other):
    examples, left_out = made({"a": one, "b": other})

    asked = [(e.pmid, " ".join(e.question.lower().split()), e.context) for e in examples]
    assert len(asked) == len(set(asked))
    assert len(examples) + sum(left_out.values()) == len(TRAIN) + len(one) + len(other)
    assert [e.source for e in examples[:2]] == ["real", "real"]
