"""The suite holds on good pairs and fails on each thing that is wrong, with the real library."""

from __future__ import annotations

import dataclasses
import math

import pytest

from medslm.files import dump_json
from medslm.quality.expectations import always, evaluate
from medslm.quality.expected import Expected, Table
from medslm.quality.suites.pairs import COLUMNS, rows_of, suite
from medslm.quality.verdict import MIN_EXPECTATIONS, as_json, report_of
from tests.factories import pair, question
from tests.quality.builders import WHOLE, ballot

# Great Expectations imports modules that Python 3.11 deprecates (sre_constants, sre_parse).
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

ANSWERS = ["yes", "no", "maybe"]
TRAIN = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 7)]
PAIRS = [pair(q.pmid, answer=q.answer) for q in TRAIN]


def outcomes_of(rows, expected=None, **overrides):
    expected = suite(**{**WHOLE, **overrides}) if expected is None else expected
    return evaluate(Table(COLUMNS, rows), expected).outcomes


def good_rows(pairs=PAIRS, train=TRAIN, unlabelled=(), test=(), ballots=None):
    votes = [ballot(p) for p in pairs] if ballots is None else ballots
    parts = {"train": train, "unlabelled": list(unlabelled), "dev": [], "test": list(test)}
    return rows_of(pairs, votes, **parts, leak_overlap=0.2)


def failures(rows, **overrides):
    outcomes = outcomes_of(rows, **overrides)
    return {(o.name, o.column): o for o in outcomes if not o.success}


def test_good_pairs_meet_every_expectation():
    outcomes = outcomes_of(good_rows())

    assert [o for o in outcomes if not o.success] == []
    assert len(outcomes) >= MIN_EXPECTATIONS
    assert all(o.error is None for o in outcomes)
    names = {(o.name, o.column) for o in outcomes}
    assert {("is_never_null", column) for column in COLUMNS} <= names


def test_no_rows_at_all_fail():
    assert ("enough_rows", None) in failures([])


def test_fewer_rows_than_the_floor_fail_and_the_floor_itself_passes():
    assert failures(good_rows(), min_kept=7)["enough_rows", None].observed == 6
    assert failures(good_rows(), min_kept=6) == {}


def test_all_null_columns_fail_each():
    empty = {column: None for column, kind in COLUMNS.items() if kind != "bool"}

    found = failures([{**row, **empty} for row in good_rows()])

    assert len(empty) == 17
    assert {("is_never_null", column) for column in empty} <= set(found)


def test_an_empty_suite_fails_and_one_expectation_does_not():
    one = Expected("is_text", "ExpectColumnValuesToHaveText", {"column": "question"})

    assert [o.success for o in outcomes_of(good_rows(), [])] == [False]
    assert all(o.success for o in outcomes_of(good_rows(), [one]))
    assert len(outcomes_of(good_rows(), [one])) == 1 + len(always(Table(COLUMNS, [])))


def test_no_suite_can_forget_rows_nulls_numbers_ids_and_columns():
    """A suite that asks for nothing of the kind still fails on each."""
    one = [Expected("is_text", "ExpectColumnValuesToHaveText", {"column": "answer"})]
    bad = {"p_yes": math.inf, "p_no": math.nan, "long_answer": None, "notes": "x"}
    rows = good_rows()
    rows[0] = {**rows[0], **bad, "id": rows[1]["id"]}

    found = {(o.name, o.column) for o in outcomes_of(rows, one) if not o.success}

    assert found == {
        ("has_exactly_its_columns", None),
        ("is_unique", "id"),
        ("is_finite", "p_yes"),
        ("is_never_null", "p_no"),
        ("is_never_null", "long_answer"),
    }
    assert "has_rows" in {o.name for o in outcomes_of([], one) if not o.success}


def test_an_expectation_that_raises_fails_critically_and_says_why():
    absent = {"column": "absent"}
    odd = Expected("odd", "ExpectColumnValuesToBeUnique", absent, "warning")
    mean = Expected("mean", "ExpectColumnMeanToBeBetween", {"column": "question", "max_value": 1})

    found = {o.name: o for o in outcomes_of(good_rows(), [odd, mean]) if not o.success}

    assert set(found) == {"odd", "mean"}
    assert (found["odd"].severity, found["mean"].severity) == ("critical", "critical")
    assert "absent" in found["odd"].error
    assert found["mean"].error


def test_broken_rows_are_joined_to_all_that_they_broke():
    rows = good_rows()
    rows[1]["has_source"] = rows[3]["has_source"] = False
    rows[3]["answer"] = "Yes"

    found = evaluate(Table(COLUMNS, rows), suite(**WHOLE))

    assert found.broken == {
        rows[1]["id"]: ("is_allowed(has_source)",),
        rows[3]["id"]: ("is_allowed(answer)", "is_allowed(has_source)"),
    }
    assert evaluate(Table(COLUMNS, good_rows()), suite(**WHOLE)).broken == {}


BAD_VALUES = [
    ("question", "The stay of adults is shorter.", "ends_in_question_mark"),
    ("question", "Is it?", "has_plausible_length"),
    ("question", "Is " + "very " * 90 + "long?", "has_plausible_length"),
    ("question", "Is the stay\nof adults shorter?", "has_its_shape"),
    ("context", "\u200b \u200b" * 20, "has_text"),
    ("context", "Too short.", "has_plausible_length"),
    ("id", "other-ask:1:0", "has_its_shape"),
    ("reply_key", "abc", "has_its_shape"),
    ("pmid", " ", "has_its_shape"),
    ("answer", "Yes", "is_allowed"),
    ("source_answer", "unclear", "is_allowed"),
    ("strategy", "new", "is_allowed"),
    ("has_source", False, "is_allowed"),
    ("in_test", True, "is_allowed"),
    ("clear_of_held_out", False, "is_allowed"),
    ("differs_from_source", False, "is_allowed"),
    ("keeps_gold_answer", False, "is_allowed"),
    ("teacher", "another", "is_the_same_throughout"),
    ("prompt", "rewrite/completion-v2", "is_the_same_throughout"),
    ("p_yes", math.nan, "is_never_null"),
    ("p_no", math.inf, "is_finite"),
    ("p_maybe", -0.1, "is_a_probability"),
    ("p_sum", 0.9, "is_a_probability"),
]


def test_each_bad_value_fails_its_expectation_critically_and_its_row_is_named():
    train = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 31)]
    rows = good_rows([pair(q.pmid, answer=q.answer) for q in train], train=train)
    expected: dict[tuple[str, str], set[str]] = {}
    for row, (column, value, name) in zip(rows, BAD_VALUES, strict=False):
        row[column] = value
        expected.setdefault((name, column), set()).add(row["id"])
        if value == math.inf:
            expected.setdefault(("is_a_probability", column), set()).add(row["id"])

    found = failures(rows)

    assert len(BAD_VALUES) < len(rows)
    assert set(found) == set(expected)
    assert {outcome.severity for outcome in found.values()} == {"critical"}
    named = {key: set(outcome.ids) for key, outcome in found.items() if outcome.ids}
    assert named == {key: expected[key] for key in named}
    assert set(expected) - set(named) == {
        ("is_the_same_throughout", "teacher"),
        ("is_the_same_throughout", "prompt"),
    }


def test_a_repeated_id_and_a_repeated_question_of_one_abstract_fail():
    rows = good_rows()
    rows[0]["id"] = rows[1]["id"]
    for column in ("pmid", "folded_question", "context"):
        rows[2][column] = rows[3][column]

    assert set(failures(rows)) == {("is_unique", "id"), ("no_question_twice_per_abstract", None)}


def test_a_missing_and_an_extra_column_fail():
    rows = [{**row, "notes": "x"} for row in good_rows()]
    for row in rows:
        del row["context"]

    found = failures(rows)

    assert ("has_exactly_its_columns", None) in found
    assert found["is_never_null", "context"].error


def test_an_answer_that_is_missing_or_dominates_fails_as_params_say():
    pairs = [pair(q.pmid, answer="yes", strategy="new") for q in TRAIN]
    rows = good_rows(pairs)

    strict = failures(rows, strategy="new", balance_severity="critical")
    mild = failures(rows, strategy="new", balance_severity="warning")

    assert set(strict) == {("has_every_answer", "answer"), ("no_answer_dominates", "answer")}
    assert strict["no_answer_dominates", "answer"].observed == "yes 6, no 0, maybe 0"
    assert {o.severity for o in strict.values()} == {"critical"}
    assert {o.severity for o in mild.values()} == {"warning"}


def test_the_balance_of_rewrites_only_warns():
    train = [question(q.pmid, answer="yes") for q in TRAIN]
    rows = good_rows([pair(q.pmid) for q in train], train=train)

    assert {o.severity for o in failures(rows, balance_severity="critical").values()} == {"warning"}


def test_a_pair_without_source_or_votes_or_from_test_or_like_a_test_question_fails():
    pairs = [*PAIRS, pair("77")]
    copied = question("99", question=PAIRS[1].question)
    held_out = [TRAIN[0], dataclasses.replace(copied, question="Is " + copied.question)]

    found = failures(good_rows(pairs, test=held_out, ballots=[ballot(p) for p in PAIRS]))

    stranger = "local-rewrite:77:0"
    assert found["is_allowed", "has_source"].ids == (stranger,)
    assert found["is_never_null", "context"].ids == (stranger,)
    assert found["is_never_null", "p_yes"].ids == (stranger,)
    assert found["is_allowed", "in_test"].ids == (PAIRS[0].id,)
    assert PAIRS[1].id in found["is_allowed", "clear_of_held_out"].ids


def turned(source):
    return pair(
        source.pmid,
        strategy="counterfactual",
        question=source.question,
        context=source.context.replace("4.1", "6.1"),
        answer=ANSWERS[(ANSWERS.index(source.answer) + 1) % 3],
    )


def test_counterfactuals_have_another_abstract_and_another_answer_than_their_source():
    pairs = [turned(source) for source in TRAIN]
    same = dataclasses.replace(pairs[0], context=TRAIN[0].context)
    gold = dataclasses.replace(pairs[1], answer=TRAIN[1].answer)

    good = failures(good_rows(pairs), strategy="counterfactual")
    found = failures(good_rows([same, gold, *pairs[2:]]), strategy="counterfactual")

    assert good == {}
    assert found["is_allowed", "differs_from_source"].ids == (same.id,)
    assert found["is_allowed", "keeps_gold_answer"].ids == (gold.id,)


def test_two_edits_of_one_abstract_may_ask_the_same_question():
    pairs = [turned(source) for source in TRAIN]
    context = TRAIN[0].context.replace("4.1", "5.9")
    second = dataclasses.replace(pairs[0], id="local-rewrite:1:1", context=context)
    again = dataclasses.replace(second, context=pairs[0].context)

    assert failures(good_rows([*pairs, second]), strategy="counterfactual") == {}
    assert set(failures(good_rows([*pairs, again]), strategy="counterfactual")) == {
        ("no_question_twice_per_abstract", None)
    }


def labelled(source, answer):
    return pair(source.pmid, strategy="pseudo-label", question=source.question, answer=answer)


def test_pseudo_labels_are_of_the_real_question_with_or_without_a_gold_answer():
    unlabelled = [question(str(n), answer=None) for n in range(11, 14)]
    pairs = [labelled(q, q.answer) for q in TRAIN] + [labelled(q, "no") for q in unlabelled]
    wrong = [labelled(TRAIN[0], "yes"), *pairs[1:]]

    good = failures(good_rows(pairs, unlabelled=unlabelled), strategy="pseudo-label")
    found = failures(good_rows(wrong, unlabelled=unlabelled), strategy="pseudo-label")

    assert good == {}
    assert TRAIN[0].answer != "yes"
    assert found["is_allowed", "keeps_gold_answer"].ids == (wrong[0].id,)


@pytest.mark.parametrize(("strategy", "allowed"), [("new", True), ("rewrite", False)])
def test_only_what_needs_no_gold_answer_may_come_from_an_unlabelled_question(strategy, allowed):
    unlabelled = [question("11", answer=None)]
    pairs = [
        pair(q.pmid, strategy=strategy, answer=q.answer or "no") for q in [*TRAIN, *unlabelled]
    ]

    found = failures(good_rows(pairs, unlabelled=unlabelled), strategy=strategy)

    assert (found == {}) == allowed
    assert allowed or found["is_allowed", "source_answer"].ids == (pairs[-1].id,)


def test_at_most_fifty_ids_are_listed_in_a_report_and_all_among_the_broken_rows():
    train = [question(str(n)) for n in range(1, 61)]
    rows = good_rows([pair(q.pmid) for q in train], train=train)
    none = Expected(
        "none", "ExpectColumnValuesToBeInSet", {"column": "has_source", "value_set": [False]}
    )

    found = evaluate(Table(COLUMNS, rows), [none])

    (outcome,) = [o for o in found.outcomes if o.name == "none"]
    assert (outcome.unexpected_count, len(outcome.ids), len(found.broken)) == (60, 50, 60)


def test_the_report_is_the_same_whatever_the_order_of_rows_and_differs_with_the_data():
    def text(rows):
        return dump_json(as_json(report_of("pairs", "a", outcomes_of(rows))))

    rows = good_rows()
    rows[0]["has_source"] = False

    assert text(rows) == text(rows[::-1])
    assert text(rows) != text(good_rows())
