"""The pictures: right places, escaped texts, equal bytes."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.evaluation import plots, svg
from medslm.evaluation.curves import Point
from medslm.evaluation.rows import Row, cited

HOSTILE = '<script>alert(1)</script>" onload="x'


def row(name="none", *, accuracy=0.6, **overrides):
    fields = {
        "name": name,
        "kind": "variant",
        "test_set": "own",
        "n": 80,
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": accuracy + 0.1,
        "macro_f1": 0.4,
        "f1_yes": 0.7,
        "f1_no": 0.4,
        "f1_maybe": 0.1,
        "unanswered": 0,
        "dev": 0.4,
    }
    return Row(**{**fields, **overrides})


def looks(picture, look):
    return [e for e in picture.iter() if e.get("class") == look]


def said(picture):
    return [e.text for e in picture.iter("text")]


def test_a_higher_accuracy_stands_further_right():
    picture = plots.intervals(
        [row("low", accuracy=0.5), row("high", accuracy=0.7)], chosen="high", majority=0.6
    )

    low, high = looks(picture, "point")[0], looks(picture, "point-chosen")[0]
    line = looks(picture, "dashed")[0]
    assert float(low.get("cx")) < float(line.get("x1")) < float(high.get("cx"))


def test_whiskers_reach_from_low_to_high_around_the_dot():
    picture = plots.intervals([row()], chosen="none", majority=None)

    whisker, dot = looks(picture, "whisker-chosen")[0], looks(picture, "point-chosen")[0]
    assert float(whisker.get("x1")) < float(dot.get("cx")) < float(whisker.get("x2"))
    assert looks(picture, "dashed") == []


def test_a_cited_line_has_a_dot_and_no_whisker():
    picture = plots.intervals([*cited("official"), row()], chosen="none", majority=None)

    assert len(looks(picture, "hollow")) == 2
    assert looks(picture, "whisker") == []


def test_a_long_name_is_cut():
    picture = plots.intervals([row("a" * 60)], chosen="", majority=None)

    assert "a" * 19 + "…" in said(picture)


def test_confusion_shows_every_count_and_shades_by_row_share():
    picture = plots.confusion(((30, 10, 0, 0), (5, 15, 0, 0), (0, 0, 0, 0)), name="none")

    tiles = [float(e.get("fill-opacity")) for e in looks(picture, "tile")]
    assert " ".join(said(picture)[-12:]) == "yes 30 10 0 no 5 15 0 maybe 0 0 0"
    assert tiles[0] == tiles[4] > tiles[1] == tiles[3] > tiles[2]


def test_a_column_for_no_answer_is_there_only_when_needed():
    without = plots.confusion(((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)), name="none")
    needed = plots.confusion(((1, 0, 0, 2), (0, 1, 0, 0), (0, 0, 1, 0)), name="none")

    assert (len(looks(without, "tile")), "unanswered" in said(without)) == (9, False)
    assert (len(looks(needed, "tile")), "unanswered" in said(needed)) == (12, True)


def test_the_dot_of_a_learning_curve_is_at_the_lowest_dev_loss():
    points = [Point(1, 1.2, 1.0), Point(2, 0.9, 0.8), Point(3, 0.5, 1.1)]

    picture = plots.learning_curve(points, name="none", lowest=0.5, highest=1.2)

    dev = looks(picture, "curve-dev")[0].get("points").split()
    dot = looks(picture, "point-chosen")[0]
    assert f"{dot.get('cx')},{dot.get('cy')}" == dev[1]


@pytest.mark.parametrize(
    ("points", "lines"),
    [
        ([Point(1, 1.0, 1.0)], 2),
        ([Point(0, None, 1.1), Point(1, 0.9, 1.0)], 2),
        ([Point(1, 1.0, None)], 1),
    ],
)
def test_a_learning_curve_may_have_gaps(points, lines):
    picture = plots.learning_curve(points, name="none", lowest=0.9, highest=1.1)

    assert len(list(picture.iter("polyline"))) == lines


def test_many_epochs_get_at_most_six_labels():
    points = [Point(epoch, 1.0, 1.0) for epoch in range(1, 41)]

    picture = plots.learning_curve(points, name="none", lowest=1.0, highest=1.0)

    labels = [e for e in looks(picture, "muted small") if e.get("y") == "167.0"]
    assert 2 <= len(labels) <= 6


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.integers(2, 8))
def test_ticks_enclose_the_values_evenly(low, span, at_most):
    ticks = plots.nice_ticks(low, low + span, at_most=at_most)

    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert 2 <= len(ticks) <= at_most + 1
    assert ticks[0] <= low + 1e-6 * max(1, span)
    assert ticks[-1] >= low + span - 1e-6 * max(1, span)
    assert gaps == pytest.approx([gaps[0]] * len(gaps))


def test_texts_cannot_become_markup():
    picture = plots.confusion(((1, 0, 0, 0),) * 3, name=HOSTILE)

    text = svg.standalone(picture)

    assert "<script" not in text
    whole = ElementTree.fromstring(text)
    assert not [name for e in whole.iter() for name in e.attrib if name.startswith("on")]
    title = whole.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert HOSTILE in title.text


def test_equal_pictures_are_equal_bytes_and_others_are_not():
    def drawn(accuracy):
        return svg.standalone(
            plots.intervals([row(accuracy=accuracy)], chosen="none", majority=0.5)
        )

    assert drawn(0.6) == drawn(0.6)
    assert drawn(0.6) != drawn(0.61)


def test_a_file_has_its_style_and_an_inline_picture_has_none():
    picture = plots.intervals([row()], chosen="none", majority=0.5)

    assert "<style>" in svg.standalone(picture)
    assert "<style>" not in svg.inline(picture)
    assert "http" not in svg.inline(picture)


def luminance(colour):
    """Return the relative luminance of an sRGB colour (WCAG 2.2, definitions)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(over, under, share):
    pairs = [(int(over[i : i + 2], 16), int(under[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


@pytest.mark.parametrize(("palette", "paper"), [(svg.LIGHT, "#ffffff"), (svg.DARK, "#14191e")])
def test_texts_can_be_read_on_paper_and_on_the_strongest_tile(palette, paper):
    tile = mixed(palette["accent"], paper, 0.5)

    for name in ("ink", "muted", "accent", "warm"):
        assert contrast(palette[name], paper) >= 4.5, name
    assert contrast(palette["ink"], tile) >= 4.5
    assert contrast(palette["rule"], paper) < 4.5  # grid lines stay in the background
