"""The sentence for a difference says who, how much, how sure, and whether that is enough."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.evaluation.differences import Difference, p_text, points, sentence

FOUND = Difference(
    one="combined",
    other="none",
    split="test",
    n=500,
    students=1,
    accuracy=0.021,
    accuracy_low=-0.01,
    accuracy_high=0.052,
    macro_f1=0.01,
    macro_f1_low=-0.02,
    macro_f1_high=0.04,
    sd=None,
    seeds=1,
    p=0.19,
    p_holm=0.57,
    only_one=40,
    only_other=29,
    p_pooled=0.19,
    detectable=0.046,
)


def with_(**fields):
    return dataclasses.replace(FOUND, **fields)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            FOUND,
            "combined beats none by 2.1 points, 95 % -1.0 to 5.2, p = .19 (Holm .57): not shown",
        ),
        (
            with_(accuracy=-0.021, accuracy_low=-0.052, accuracy_high=0.01),
            "none beats combined by 2.1 points, 95 % -1.0 to 5.2, p = .19 (Holm .57): not shown",
        ),
        (
            with_(p=0.0002, p_holm=0.0006, accuracy_low=0.001),
            "combined beats none by 2.1 points, 95 % 0.1 to 5.2, p < .001 (Holm < .001): "
            "shown for these students only, another seed was not tried",
        ),
        (
            with_(p=0.0002, p_holm=0.0006, students=5, seeds=5, sd=0.008),
            "combined beats none by 2.1 points (mean of 5 students, sd over seeds 0.8), "
            "95 % -1.0 to 5.2, p < .001 (Holm < .001): shown",
        ),
        (
            with_(p=0.0002, p_holm=0.0006, students=5, seeds=5, sd=0.03),
            "combined beats none by 2.1 points (mean of 5 students, sd over seeds 3.0), "
            "95 % -1.0 to 5.2, p < .001 (Holm < .001): shown for these students only, seeds differ as much",
        ),
        (
            with_(p=0.0002, p_holm=0.0006, students=3, seeds=3),
            "combined beats none by 2.1 points (mean of 3 students), 95 % -1.0 to 5.2, p < .001 "
            "(Holm < .001): shown for these students only, their seeds are not the same",
        ),
        (
            with_(students=5, sd=0.008),
            "combined beats none by 2.1 points (mean of 5 students, sd over seeds 0.8), "
            "95 % -1.0 to 5.2, p = .19 (Holm .57): not shown",
        ),
        (
            with_(accuracy=0.0, accuracy_low=-0.02, accuracy_high=0.02, p=1.0, p_holm=1.0),
            "combined and none are equally often right, 95 % -2.0 to 2.0, p = 1.00 (Holm 1.00): not shown",
        ),
        (
            with_(
                accuracy=0.0, accuracy_low=0.0, accuracy_high=0.0, p=1.0, p_holm=1.0, detectable=0.0
            ),
            "combined and none are right on the very same questions: not shown",
        ),
    ],
)
def test_a_difference_is_one_plain_sentence(found, said):
    assert sentence(found) == said


@pytest.mark.parametrize(("p_holm", "is_shown"), [(0.0499, True), (0.05, False), (0.9, False)])
def test_shown_is_what_stays_below_one_in_twenty_after_correction(p_holm, is_shown):
    assert with_(p=0.001, p_holm=p_holm).is_shown == is_shown
    several = with_(p=0.001, p_holm=p_holm, students=3, seeds=3, sd=0.001)
    assert several.is_shown_over_seeds == is_shown
    assert sentence(several).endswith(": shown") == is_shown


def test_over_seeds_the_mean_has_to_lie_beyond_its_t_interval():
    # t.975 of 2 degrees of freedom is 4.303: the reach for three seeds is 2.484 sd
    near, far = (with_(p_holm=0.001, seeds=3, sd=0.021 / k) for k in (2.47, 2.50))

    assert not near.is_shown_over_seeds
    assert far.is_shown_over_seeds
    assert not with_(p_holm=0.001).is_shown_over_seeds


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.19, ".19"),
        (0.0312, ".031"),
        (0.0996, ".10"),
        (1.0, "1.00"),
        (0.00099, "< .001"),
        (0.9999, "1.00"),
    ],
)
def test_p_values_have_two_digits(p, text):
    assert p_text(p) == text


def test_points_are_never_minus_zero():
    assert [points(x) for x in (-0.0001, 0.0, 0.0214, -0.0314)] == ["0.0", "0.0", "2.1", "-3.1"]
