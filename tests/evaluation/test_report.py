"""The page: whole, inert, and saying what limits its numbers."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from medslm.errors import DataError
from medslm.evaluation.compare import compare
from medslm.evaluation.curves import Point
from medslm.evaluation.report import Quality, caveats, confusion_csv, draw, page, require_known
from tests.evaluation.pages import Page
from tests.evaluation.worlds import answered_only, sheet

SHEETS = {
    name: sheet(name, dev=dev, test=0.4)
    for name, dev in {"majority": 0.1, "none": 0.3, "combined": 0.9}.items()
}
CURVES = {name: [Point(1, 1.1, 1.0), Point(2, 0.9, 0.95)] for name in ("none", "combined")}
QUALITY = {
    "local-new": Quality(60, {"empty": 4, "no_question": 8}, 41, 19, {"too_short": 3, "refusal": 9})
}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "${7*7}",
    "<!--",
    "]]>",
]


def comparison(sheets=None):
    return compare(
        sheets or SHEETS,
        variants=["none", "combined"],
        baselines=["majority"],
        metric="dev.macro_f1",
    )


def rendered(compared=None, quality=None):
    compared = compared or comparison()
    pictures = draw(compared, SHEETS, CURVES)
    return page(compared, SHEETS, pictures, QUALITY if quality is None else quality)


def test_the_page_runs_and_loads_nothing():
    assert Page(rendered()).live_parts() == []


def test_the_check_for_live_parts_would_see_one():
    spoilt = rendered().replace("</main>", '<img src="//x.test/a.png" onload="f()"></main>')

    assert len(Page(spoilt).live_parts()) == 4


def test_the_page_forbids_everything_but_its_own_style():
    policies = [a for t, a in Page(rendered()).elements if "http-equiv" in a]

    assert [p["content"] for p in policies] == [
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_in_any_field_stays_text(text):
    named = dataclasses.replace(comparison().rows[0], name=text)
    compared = dataclasses.replace(
        comparison(), rows=(*comparison().rows, dataclasses.replace(named, kind="cited"))
    )
    compared = dataclasses.replace(compared, warnings=(text,))
    quality = {text: dataclasses.replace(QUALITY["local-new"], reasons={text: 3})}

    found = Page(rendered(compared, quality))

    assert found.live_parts() == []
    # row, warning, ask, reason; the picture cuts long names
    assert found.text.count(text) >= 4


def test_hostile_names_stay_text_in_pictures_too():
    sheets = {**SHEETS, HOSTILE[1]: sheet(HOSTILE[1], dev=0.95)}
    compared = compare(sheets, variants=["none", HOSTILE[1]], baselines=[], metric="dev.nll")

    html = page(compared, sheets, draw(compared, sheets, {HOSTILE[1]: CURVES["none"]}), {})

    assert Page(html).live_parts() == []


def test_the_page_shows_every_row_and_every_picture():
    found = Page(rendered())

    assert len([t for t, _ in found.elements if t == "figure"]) == 1 + 3 + 2
    assert len([t for t, _ in found.elements if t == "svg"]) == 1 + 3 + 2
    for name in ("majority", "none", "combined"):
        assert f"{SHEETS[name].test.macro_f1:.3f}" in found.text
    assert "refusal 9, too_short 3" in found.text
    assert "57 %" in found.text  # 41 kept of 72 replies


def test_answers_without_probabilities_show_a_dash_and_no_number():
    teacher = dataclasses.replace(answered_only(SHEETS["majority"]), variant="few-shot")
    sheets = {**SHEETS, "few-shot": teacher}
    compared = compare(
        sheets,
        variants=["none", "combined"],
        baselines=["majority", "few-shot"],
        metric="dev.nll",
    )

    pictures = draw(compared, sheets, CURVES)
    found = Page(page(compared, sheets, pictures, QUALITY))

    assert pictures.intervals.picture.tag == "svg"
    assert [p.title for p in pictures.confusions][:3] == ["combined", "majority", "few-shot"]
    assert [p.title for p in pictures.curves] == ["none", "combined"]
    assert (
        found.text.count(f"{SHEETS['majority'].dev.nll:.3f}") == 2
    )  # majority's own, not few-shot's
    dashes = found.text.split().count("-")
    plain = Page(rendered()).text.split().count("-")
    # no control in its line; dev.nll in the table, dev NLL and test NLL below
    assert dashes == plain + 1 + 3


def test_without_asks_the_page_says_so():
    assert "No teacher was asked" in Page(rendered(quality={})).text
    assert "No teacher was asked" not in Page(rendered()).text


def test_equal_inputs_give_equal_pages_and_others_do_not():
    other = {"local-new": dataclasses.replace(QUALITY["local-new"], kept=40)}

    assert rendered() == rendered()
    assert rendered() != rendered(quality=other)


def test_the_page_fits_a_phone_and_paper():
    found = Page(rendered())

    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        found.elements
    )
    assert "@media print" in found.styles
    assert "prefers-color-scheme: dark" in found.styles


def test_the_confusion_csv_has_a_line_per_test_question():
    rows = list(csv.DictReader(io.StringIO(confusion_csv(SHEETS["combined"]))))

    assert len(rows) == 80
    hits = sum(r["actual"] == r["predicted"] for r in rows)
    assert hits / 80 == pytest.approx(SHEETS["combined"].test.accuracy, abs=1e-6)
    assert {r["variant"] for r in rows} == {"combined"}


def test_the_caveats_follow_from_the_numbers():
    several = {
        name: dataclasses.replace(s, spread=dataclasses.replace(s.spread, cells=5))
        for name, s in SHEETS.items()
    }

    assert any("One fold and one seed" in told for told in caveats(comparison(), SHEETS))
    assert not any("One fold and one seed" in told for told in caveats(comparison(), several))
    assert any("not the official" in told for told in caveats(comparison(), SHEETS))


def test_a_comparison_of_other_variants_is_refused():
    require_known(comparison(), variants=["none", "combined"], baselines=["majority"])
    with pytest.raises(DataError, match=r"lists majority, none: compare again"):
        require_known(comparison(), variants=["none"], baselines=["majority"])
