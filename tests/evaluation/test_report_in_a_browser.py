"""The report as a reader opens it: desk, phone and paper, and with a hostile name in every field."""

from __future__ import annotations

import dataclasses

import pytest

from medslm.evaluation.background import (
    diversity_table,
    quality_table,
    spend_table,
    training_table,
    votes_table,
)
from medslm.evaluation.pictures import draw
from medslm.evaluation.report import page
from medslm.files import write_text
from tests.evaluation.test_report import (
    CURVES,
    HISTORIES,
    QUALITY,
    SHEETS,
    VOTES,
    background,
    rendered,
    with_tests,
)

HOSTILE = '<script>window.hit=1</script><img src=x onerror="window.hit=1">'


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_text(path, rendered(with_tests()))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_the_page_loads_nothing_complains_of_nothing_and_fits(browser, report, width, scheme):
    with browser.open(report, width=width, scheme=scheme) as tab:
        assert tab.errors() == []
        assert tab.requests() == []
        assert tab.width() <= width
        assert tab.count("svg") == 1 + 2 + 3 + 3 + 2
        assert "combined beats none" in tab.text("main")


def test_the_checks_above_see_what_they_look_for(browser, report, tmp_path):
    spoilt = tmp_path / "spoilt.html"
    wide = '<p style="width: 3000px">wide</p><img src="http://127.0.0.1:9/x.png"></main>'
    write_text(spoilt, report.read_text().replace("</main>", wide))

    with browser.open(spoilt, width=390) as tab:
        assert any("Content Security Policy" in error for error in tab.errors())
        assert tab.width() > 390
    free = tmp_path / "free.html"
    write_text(free, spoilt.read_text().replace("default-src 'none'", "default-src *"))
    with browser.open(free) as tab:
        tab.wait_for("document.images[0].complete")
        assert tab.requests() == ["http://127.0.0.1:9/x.png"]


def test_markup_in_every_field_is_text(browser, tmp_path):
    compared = with_tests()
    rows = tuple(
        row if row.name in SHEETS else dataclasses.replace(row, name=HOSTILE)
        for row in compared.rows
    )
    cited = dataclasses.replace(rows[0], name=HOSTILE, kind="cited")
    compared = dataclasses.replace(
        compared,
        rows=(cited, *rows),
        elsewhere=(cited,),
        warnings=(HOSTILE,),
        differences=tuple(
            dataclasses.replace(d, one=HOSTILE, other=HOSTILE) for d in compared.differences
        ),
    )
    tables = {
        "quality": quality_table(
            {
                HOSTILE: dataclasses.replace(
                    QUALITY["local-new"], reasons={HOSTILE: 1}, answers={"kept": {HOSTILE: 2}}
                )
            }
        ),
        "votes": votes_table({HOSTILE: {**VOTES["local-new"], "verifier": HOSTILE}}),
        "diversity": diversity_table({"asks": {HOSTILE: {"n": 1}}}),
        "spend": spend_table({HOSTILE: {}}),
        "training": training_table({HOSTILE: HISTORIES["none"]}),
        "origins": [{"what": HOSTILE, "path": HOSTILE, "MD5": HOSTILE}],
    }
    sheets = {**SHEETS, HOSTILE: SHEETS["none"]}
    curves = {**CURVES, HOSTILE: CURVES["none"]}
    path = tmp_path / "hostile.html"
    write_text(path, page(compared, sheets, draw(compared, sheets, curves), background(**tables)))

    with browser.open(path, width=390) as tab:
        assert tab.evaluate("window.hit === undefined")
        assert tab.count("script, img, iframe, link, object, [onerror]") == 0
        assert tab.errors() == []
        assert tab.requests() == []
        assert tab.width() <= 390
        shown = tab.text("main")
        assert shown.count(HOSTILE) > 20


def test_on_paper_nothing_is_wider_than_the_sheet(browser, report):
    with browser.open(report, width=794) as tab:  # A4 at 96 dots an inch
        tab.call("Emulation.setEmulatedMedia", media="print")

        assert tab.width() <= 794
        colours = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colours == "rgb(255, 255, 255)"
