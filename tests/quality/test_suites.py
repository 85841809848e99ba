"""Every suite holds on good data and fails on each thing that is wrong, with the real library."""

from __future__ import annotations

import dataclasses
import math

import pytest

from medslm.data.records import ANSWERS
from medslm.data.split import Fold
from medslm.files import dump_json
from medslm.quality.custom import has_text, is_finite
from medslm.quality.expectations import evaluate
from medslm.quality.suites import mixes, predictions, raw, replies, splits
from medslm.quality.verdict import MIN_EXPECTATIONS, as_json, report_of
from tests.factories import example, exchange, prediction, question

# Great Expectations imports modules that Python 3.11 deprecates (sre_constants, sre_parse).
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

RAW = {
    "min_questions": 3,
    "max_answer_share": 0.9,
    "min_question_chars": 10,
    "max_question_chars": 400,
    "min_context_chars": 20,
}
REPLIES = {"max_failed_share": 0.2, "max_cut_share": 0.1, "max_repeated_share": 0.2}
QUESTIONS = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 13)]
PARTS = {
    "train": QUESTIONS[:6],
    "dev": QUESTIONS[6:9],
    "test": QUESTIONS[9:],
    "unlabelled": [question("70", answer=None)],
}
FOLDS = {"0": Fold(tuple("123456"), tuple("789"))}
EXAMPLES = [
    *(
        example(q.pmid, question=q.question, context=q.context, answer=q.answer)
        for q in PARTS["train"]
    ),
    example("1", question="Is it?", source="a", pair_id="a:1:0"),
    example("70", question="Is it so?", source="a", pair_id="a:70:0"),
]
PREDICTIONS = [
    prediction(q.pmid, split=part, answer=a, probabilities={**dict.fromkeys(ANSWERS, 0.2), a: 0.6})
    for part in ("dev", "test")
    for q, a in zip(PARTS[part], ANSWERS, strict=True)
]
EXCHANGES = [exchange(str(n), content=f"{{{n}}}") for n in range(1, 7)]


def of_raw(questions=QUESTIONS, **knobs):
    return evaluate(raw.table(questions), raw.suite(**{**RAW, **knobs}))


def of_splits(parts=PARTS, folds=FOLDS):
    return evaluate(splits.table(parts, folds), splits.suite(min_questions=3))


def of_replies(exchanges=EXCHANGES):
    known = {"sources": {str(n) for n in range(1, 10)}, "test": {"9"}}
    table = replies.table("a", exchanges, **known)
    return evaluate(table, replies.suite(strategy="rewrite", **REPLIES))


def of_mix(examples=EXAMPLES, asks=("a",)):
    parts = {"train": PARTS["train"], "unlabelled": {"70"}, "test": {"10", "11", "12"}}
    suite = mixes.suite(asks=asks, real=PARTS["train"], max_answer_share=0.9)
    return evaluate(mixes.table(examples, **parts), suite)


def of_predictions(rows=PREDICTIONS):
    table = predictions.table(rows, dev=PARTS["dev"], test=PARTS["test"], folds=FOLDS)
    knobs = {"max_answer_share": 0.9, "max_unanswered_share": 0.1}
    return evaluate(table, predictions.suite(folds=["0"], questions=3, **knobs))


SUITES = {
    "raw": (of_raw, QUESTIONS),
    "replies": (of_replies, EXCHANGES),
    "mixes": (of_mix, EXAMPLES),
    "predictions": (of_predictions, PREDICTIONS),
}


def failed(found, severity="critical"):
    return {
        (o.name, o.column): o for o in found.outcomes if not o.success and o.severity == severity
    }


def names(found, severity="critical"):
    return set(failed(found, severity))


@pytest.mark.parametrize("found", [of_raw, of_splits, of_replies, of_mix, of_predictions])
def test_good_data_meet_every_expectation(found):
    outcomes = found().outcomes

    assert [o for o in outcomes if not o.success] == []
    assert len(outcomes) >= MIN_EXPECTATIONS
    assert found().broken == {}


@pytest.mark.parametrize("name", SUITES)
def test_b09_no_rows_fail_every_suite(name):
    evaluated, _ = SUITES[name]

    assert {("has_rows", None), ("enough_rows", None)} <= names(evaluated([]))


def test_b09_parts_without_questions_fail():
    found = names(of_splits({**PARTS, "test": []}))

    assert ("every_part_is_there", "part") in found
    assert ("test_has_every_answer", "part_and_answer") in found
    assert ("has_rows", None) in names(of_splits({part: [] for part in PARTS}))


@pytest.mark.parametrize("name", SUITES)
def test_reports_are_the_same_bytes_whatever_the_order_of_rows(name):
    evaluated, rows = SUITES[name]

    def text(some):
        found = evaluated(some)
        return dump_json(as_json(report_of(name, "x", found.outcomes))) + dump_json(found.broken)

    assert text(rows) == text(rows[::-1])
    assert text(rows) != text(rows[:-2])


def changed(rows, at, **values):
    rows = list(rows)
    rows[at] = dataclasses.replace(rows[at], **values)
    return rows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"answer": None}, ("is_never_null", "answer")),
        ({"pmid": "x1"}, ("has_its_shape", "id")),
        ({"question": " \u200b \ufeff" * 5}, ("has_text", "question")),
        ({"question": "Is it?"}, ("has_plausible_length", "question")),
        ({"long_answer": "\u2060 "}, ("has_text", "long_answer")),
        ({"sections": ()}, ("is_allowed", "has_sections")),
        ({"pmid": "2"}, ("is_unique", "id")),
    ],
)
def test_a_bad_raw_question_is_named(values, expected):
    found = of_raw(changed(QUESTIONS, 0, **values))

    assert expected in failed(found)
    bad = values.get("pmid", "1")
    assert f"{expected[0]}({expected[1]})" in found.broken[bad]


def test_a_question_asked_twice_in_other_letters_is_a_warning():
    composed = "Does caf\u00e9 treatment shorten the hospital stay?"
    decomposed = composed.replace("\u00e9", "e\u0301").upper()
    twice = changed(changed(QUESTIONS, 0, question=composed), 1, question=decomposed)
    other = changed(changed(QUESTIONS, 0, question=composed), 1, question=composed + " Yes?")

    assert failed(of_raw(twice), "warning")["is_asked_once", "question"].ids == ("1", "2")
    assert names(of_raw(twice)) == set()
    assert names(of_raw(other), "warning") == set()


def test_b11_answers_that_collapse_or_lack_one_fail_with_counts():
    same = [dataclasses.replace(q, answer="yes") for q in QUESTIONS]
    two = [q for q in QUESTIONS if q.answer != "maybe"]

    collapsed, lacking = failed(of_raw(same)), failed(of_raw(two))

    assert set(collapsed) == {("has_every_answer", "answer"), ("no_answer_dominates", "answer")}
    assert {o.observed for o in collapsed.values()} == {"yes 12, no 0, maybe 0"}
    assert set(lacking) == {("has_every_answer", "answer")}
    assert lacking["has_every_answer", "answer"].observed == "yes 4, no 4, maybe 0"


def test_b11_a_training_set_of_one_answer_fails_and_such_predictions_only_warn():
    same = [dataclasses.replace(e, answer="yes") for e in EXAMPLES]
    row = {"yes": 0.6, "no": 0.2, "maybe": 0.2}
    constant = [dataclasses.replace(p, answer="yes", probabilities=row) for p in PREDICTIONS]
    balance = {("has_every_answer", "answer"), ("no_answer_dominates", "answer")}

    assert balance <= names(of_mix(same))
    assert (names(of_predictions(constant)), names(of_predictions(constant), "warning")) == (
        set(),
        balance,
    )


def test_a_study_in_test_and_elsewhere_or_asked_in_test_fails():
    shared = {**PARTS, "train": [*PARTS["train"], PARTS["test"][0]]}
    copied = dataclasses.replace(PARTS["unlabelled"][0], question=PARTS["test"][0].question.upper())

    leaked = of_splits(shared)
    asked = of_splits({**PARTS, "unlabelled": [copied]})

    assert failed(leaked)["is_allowed", "apart_from_test"].ids == ("test:10", "train:10")
    assert failed(asked)["is_allowed", "asked_apart_from_test"].ids == ("unlabelled:70",)


def test_a_fold_with_a_question_on_both_sides_and_one_outside_of_all_fail():
    both = {"0": Fold(tuple("1234567"), tuple("789"))}
    fewer = {"0": Fold(tuple("12345"), tuple("789"))}

    assert failed(of_splits(folds=both))["is_allowed", "on_one_side_of_each_fold"].ids == ("dev:7",)
    assert failed(of_splits(folds=fewer))["is_allowed", "in_a_fold"].ids == ("train:6",)


def test_a_dev_part_without_maybe_only_warns_and_a_train_part_fails():
    def without(part):
        return {**PARTS, part: [q for q in PARTS[part] if q.answer != "maybe"]}

    assert names(of_splits(without("train"))) == {("train_has_every_answer", "part_and_answer")}
    found = of_splits(without("dev"))
    assert (names(found), names(found, "warning")) == (
        set(),
        {("dev_has_every_answer", "part_and_answer")},
    )


def test_an_answer_where_there_should_be_none_fails():
    found = of_splits({**PARTS, "unlabelled": [question("70")]})

    assert failed(found)["is_allowed", "has_answer_if_labelled"].ids == ("unlabelled:70",)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"key": "abc"}, ("has_its_shape", "key")),
        ({"key": EXCHANGES[1].key}, ("is_unique", "key")),
        ({"strategy": "new"}, ("is_allowed", "strategy")),
        ({"pmid": "99"}, ("is_allowed", "has_source")),
        ({"pmid": "9"}, ("is_allowed", "in_test")),
        ({"teacher": "other"}, ("is_the_same_throughout", "teacher")),
        ({"served_model": " "}, ("has_text", "served_model")),
    ],
)
def test_a_bad_reply_fails(values, expected):
    assert expected in names(of_replies(changed(EXCHANGES, 0, **values)))


def test_many_failed_replies_fail_and_many_cut_or_repeated_ones_warn():
    gone = [dataclasses.replace(e, content=None) for e in EXCHANGES[:2]]
    cut = [dataclasses.replace(e, finish_reason="length") for e in EXCHANGES[:2]]
    same = [dataclasses.replace(e, content="{1}") for e in EXCHANGES[:3]]

    assert names(of_replies([*gone, *EXCHANGES[2:]])) == {("few_of_them", "is_failed")}
    assert names(of_replies([*gone[:1], *EXCHANGES[1:]])) == set()
    assert names(of_replies([*cut, *EXCHANGES[2:]]), "warning") == {("few_of_them", "is_cut")}
    assert names(of_replies([*same, *EXCHANGES[3:]]), "warning") == {("few_of_them", "is_repeated")}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"pmid": "10"}, ("is_allowed", "in_test")),
        ({"pmid": "99"}, ("is_allowed", "has_source")),
        ({"source": "b"}, ("is_allowed", "source")),
        ({"pair_id": None}, ("is_allowed", "names_its_pair")),
        ({"question": "\u200b"}, ("has_text", "question")),
    ],
)
def test_a_bad_training_example_fails(values, expected):
    assert expected in names(of_mix(changed(EXAMPLES, 6, **values)))


def test_a_real_example_that_changed_or_is_missing_fails():
    turned = changed(EXAMPLES, 0, answer=EXAMPLES[1].answer)

    assert ("is_allowed", "is_as_in_train_if_real") in names(of_mix(turned))
    found = failed(of_mix([*EXAMPLES[1:5], *EXAMPLES[:1], *EXAMPLES[6:]]))
    assert ("has_every_real_question", "pmid") in found


def test_b09_a_training_set_with_nothing_of_an_ask_fails():
    assert names(of_mix(EXAMPLES[:6])) == {("has_something_of_each", "source")}
    assert names(of_mix(EXAMPLES[:6], asks=())) == set()


def test_a_control_may_repeat_its_examples():
    assert names(of_mix([*EXAMPLES, *EXAMPLES])) == set()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_b10_probabilities_that_are_no_numbers_fail(bad):
    rows = changed(PREDICTIONS, 0, probabilities={"yes": bad, "no": 0.2, "maybe": 0.2})

    found = of_predictions(rows)

    assert {column for _, column in failed(found)} >= {"p_yes", "p_sum"}
    assert "dev:0:0:7" in found.broken


def test_b10_missing_probabilities_fail():
    found = of_predictions(changed(PREDICTIONS, 0, probabilities={}))

    assert ("is_never_null", "p_yes") in names(found)
    assert found.broken["dev:0:0:7"] == tuple(
        f"is_never_null({column})" for column in ("p_maybe", "p_no", "p_sum", "p_yes")
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (PREDICTIONS[1:], ("is_allowed", "its_cell_is_complete")),
        (PREDICTIONS[:3], ("both_parts_are_there", "split")),
        ([*PREDICTIONS, PREDICTIONS[0]], ("is_unique", "id")),
        (changed(PREDICTIONS, 0, answer="no"), ("is_allowed", "is_the_most_probable")),
        (changed(PREDICTIONS, 0, pmid="1"), ("is_allowed", "its_cell_is_complete")),
        (
            changed(PREDICTIONS, 0, probabilities={"yes": 0.9, "no": 0.9, "maybe": 0.1}),
            ("is_a_probability", "p_sum"),
        ),
    ],
)
def test_bad_predictions_fail(rows, expected):
    assert expected in names(of_predictions(rows))


def test_many_questions_without_an_answer_are_a_warning():
    found = of_predictions(changed(PREDICTIONS, 0, answer=None))

    assert names(found) == set()
    assert ("few_of_them", "is_unanswered") in names(found, "warning")


@pytest.mark.parametrize(
    ("text", "holds"), [("a", True), ("7", True), (" \u200b", False), ("?!", False), ("", False)]
)
def test_text_is_a_letter_or_a_digit(text, holds):
    assert has_text(text) == holds


def test_a_number_is_finite():
    assert [is_finite(v) for v in (0.0, 1, math.inf, math.nan, "1")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_broken_row_of_a_training_set_leads_to_its_pair():
    assert "a:a:1:0#1" in of_mix(changed(EXAMPLES, 6, pmid="99")).broken
