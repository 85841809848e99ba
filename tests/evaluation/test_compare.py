"""The choice is made on dev alone; the table warns where its numbers do not tell models apart."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError, ParamsError
from medslm.evaluation.compare import choose, compare, lines_above
from medslm.evaluation.rows import CITED
from tests.evaluation.test_differences import FOUND
from tests.evaluation.worlds import answered_only, sheet

STRONG, WEAK = sheet("strong", dev=1.0, test=0.5), sheet("weak", dev=0.2, test=0.5)
BASE = sheet("majority", dev=0.1, test=0.5)


def named(original, name, *, dev=None, test=None):
    return dataclasses.replace(
        original,
        variant=name,
        dev=dataclasses.replace(original.dev, **(dev or {})),
        test=dataclasses.replace(original.test, **(test or {})),
    )


def compared(*sheets, metric="dev.macro_f1", baselines=()):
    names = [s.variant for s in sheets]
    return compare(
        {s.variant: s for s in [*sheets, *baselines]},
        variants=names,
        baselines=[s.variant for s in baselines],
        metric=metric,
    )


@pytest.mark.parametrize("metric", ["dev.macro_f1", "dev.accuracy", "dev.nll"])
def test_the_variant_best_on_dev_is_chosen(metric):
    assert compared(WEAK, STRONG, metric=metric).chosen == "strong"
    assert compared(STRONG, WEAK, metric=metric).chosen == "strong"


share = st.floats(0, 1)


@given(share, share, share, share)
def test_test_scores_never_change_the_choice(one, two, three, four):
    variants = [
        named(WEAK, "weak", test={"accuracy": one, "macro_f1": two, "nll": 9 * three}),
        named(STRONG, "strong", test={"accuracy": three, "macro_f1": four, "nll": 9 * one}),
    ]

    assert compared(*variants).chosen == "strong"


def test_dev_scores_do_change_the_choice():
    swapped = named(STRONG, "strong", dev={"macro_f1": 0.0})

    assert compared(WEAK, STRONG).chosen == "strong"
    assert compared(WEAK, swapped).chosen == "weak"


def test_of_equal_variants_the_earlier_in_params_is_chosen():
    one, two = named(STRONG, "one"), named(STRONG, "two")

    assert compared(one, two).chosen == "one"
    assert compared(two, one).chosen == "two"


def test_a_baseline_is_never_chosen():
    unbeaten = named(STRONG, "majority")

    comparison = compared(WEAK, baselines=[unbeaten])

    assert comparison.chosen == "weak"
    told = "weak is no better on dev.macro_f1 than the baseline majority."
    assert told in comparison.warnings


def test_beating_the_baselines_raises_no_warning_about_them():
    comparison = compared(STRONG, baselines=[BASE])

    assert not any("no better" in warning for warning in comparison.warnings)


def test_baselines_stand_above_variants_in_the_order_of_params():
    rows = compared(WEAK, STRONG, baselines=[BASE]).rows

    assert [(r.name, r.kind) for r in rows] == [
        ("majority", "baseline"),
        ("weak", "variant"),
        ("strong", "variant"),
    ]


def test_answers_stand_below_the_baselines_unless_these_name_them():
    assert lines_above(["majority"], ["few", "zero"]) == ["majority", "few", "zero"]
    assert lines_above(["zero", "majority"], ["few", "zero"]) == ["zero", "majority", "few"]
    assert lines_above(["majority"], {}) == ["majority"]


@pytest.mark.parametrize("metric", ["dev.macro_f1", "dev.accuracy", "dev.nll"])
def test_a_teachers_answers_are_a_line_and_never_chosen_whatever_the_metric(metric):
    teacher = answered_only(named(STRONG, "few-shot", dev={"accuracy": 1.0, "macro_f1": 1.0}))

    comparison = compared(WEAK, baselines=[teacher], metric=metric)

    line = comparison.rows[0]
    assert (line.name, line.kind, comparison.chosen) == ("few-shot", "baseline", "weak")
    assert (line.dev is None) == (metric == "dev.nll")
    told = any("than the baseline few-shot" in warning for warning in comparison.warnings)
    assert told == (metric != "dev.nll")  # no number to be worse than


def test_a_variant_without_probabilities_cannot_be_chosen_by_likelihood():
    with pytest.raises(DataError, match=r"strong: has no dev\.nll"):
        compared(WEAK, answered_only(STRONG), metric="dev.nll")
    assert compared(WEAK, answered_only(STRONG)).chosen == "strong"


def test_what_the_chosen_is_not_shown_to_differ_from_is_warned_of():
    pairs = [
        dataclasses.replace(FOUND, one="strong", other="weak", p_holm=0.2),
        dataclasses.replace(FOUND, one="other", other="strong", p_holm=0.06),
        dataclasses.replace(FOUND, one="strong", other="majority", p_holm=0.01, seeds=3, sd=0.001),
        dataclasses.replace(FOUND, one="other", other="weak", p_holm=0.9),
    ]

    def warned(differences):
        found = compare(
            {"weak": WEAK, "strong": STRONG},
            variants=["weak", "strong"],
            baselines=[],
            metric="dev.macro_f1",
            differences=differences,
        )
        return found.warnings

    [told] = warned(pairs)
    assert told.startswith("strong is not shown to differ in accuracy from weak, other on n = 80")
    assert warned(pairs[2:]) == ()


def test_unanswered_questions_are_told():
    silent = named(STRONG, "strong", test={"unanswered": 3})

    assert "strong left 3 of 80 test questions unanswered" in compared(silent).warnings[-1]


def of_set(original, name, test_set):
    return dataclasses.replace(named(original, name), test_set=test_set, test_digest=test_set)


@pytest.mark.parametrize("test_set", ["official", "last-500"])
def test_published_lines_stand_only_beside_their_own_test_set(test_set):
    found = compared(of_set(STRONG, "strong", test_set))

    lines = [r for r in found.rows if r.kind == "cited"]
    assert lines
    assert {r.test_set for r in found.rows} == {test_set}
    assert {*lines, *found.elsewhere} == set(CITED)
    assert test_set not in {r.test_set for r in found.elsewhere}
    paper = [r.name for r in lines if "Guo" in r.name]
    assert bool(paper) == (test_set == "last-500")


def test_nothing_published_stands_beside_ones_own_test_set():
    found = compared(STRONG)

    assert [r.kind for r in found.rows] == ["variant"]
    assert (found.test_set, found.elsewhere) == ("own", ())


def test_no_variants_is_a_params_error():
    with pytest.raises(ParamsError, match="variants: is empty"):
        compared()


def test_a_variant_may_not_be_named_like_a_baseline():
    with pytest.raises(ParamsError, match="majority is also a baseline"):
        compare({"majority": BASE}, variants=["majority"], baselines=["majority"], metric="dev.nll")


def test_scores_of_different_test_sets_are_not_compared():
    smaller = sheet("weak", n_test=60)

    with pytest.raises(DataError, match="weak was scored on other test questions"):
        compared(STRONG, smaller)


def test_a_metric_that_a_variant_does_not_have_cannot_choose():
    without = named(STRONG, "strong", dev={"nll": None})

    with pytest.raises(DataError, match=r"strong: has no dev\.nll"):
        choose({"strong": without}, variants=["strong"], metric="dev.nll")
