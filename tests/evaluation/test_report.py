"""The page: whole, inert, and saying what limits its numbers."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.evaluation.background import (
    Background,
    Quality,
    diversity_table,
    origins_table,
    quality_table,
    require_whole,
    spend_table,
    training_table,
    votes_table,
)
from medslm.evaluation.compare import compare
from medslm.evaluation.curves import Epoch, Point
from medslm.evaluation.digest import summary
from medslm.evaluation.paired import differences
from medslm.evaluation.pictures import confusion_csv, draw, reliability_csv, scores_csv
from medslm.evaluation.report import caveats, page, require_known
from medslm.evaluation.verdict import pairs_to_test
from tests.evaluation.pages import Page
from tests.evaluation.worlds import answered_only, sheet, student, studies

SHEETS = {
    name: sheet(name, dev=dev, test=0.4)
    for name, dev in {"majority": 0.1, "none": 0.3, "combined": 0.9}.items()
}
CURVES = {name: [Point(1, 1.1, 1.0), Point(2, 0.9, 0.95)] for name in ("none", "combined")}
QUALITY = {
    "local-new": Quality(60, {"empty": 4, "no_question": 8}, 41, 19, {"too_short": 3, "refusal": 9})
}
STRENGTHS = {"majority": 0.1, "none": 0.3, "combined": 0.9}
GOLD = {q.pmid: q.answer for q in studies(5000, 80)}
VOTES = {
    "local-new": {
        "verifier": "toy",
        "on_gold": {"n": 30, "agreement": 0.4, "majority_share": 0.55, "kappa": None},
        "on_claims": {"n": 60, "abstained": 7, "agreement": 0.5},
    }
}
SPEND = {
    "local-new": {"usd": 1.25, "requests": 72, "failed": 0, "prompt_tokens": 12345, "x": "new key"},
    "few-shot": {
        "usd": 0,
        "requests": 9,
        "failed": 1,
        "prompt_tokens": 900,
        "completion_tokens": 8,
    },
}
DIVERSITY = {
    "real": {"n": 60, "distinct_2": 0.9},
    "asks": {"local-new": {"n": 41, "distinct_2": 0.5}},
}
HISTORIES = {"none": [Epoch(0, s, e, 9 * e, 1.0, 1.1 - e / 10) for s in (0, 1) for e in (1, 2)]}
OUTS = {"data/raw": "1" * 32 + ".dir", "data/checked/local-new": "2" * 32, "models/none": "3" * 32}
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


def background(**tables):
    full = {
        "quality": quality_table(QUALITY),
        "votes": votes_table(VOTES),
        "diversity": diversity_table(DIVERSITY),
        "spend": spend_table(SPEND),
        "training": training_table(HISTORIES),
        "origins": origins_table(
            OUTS, asks=["local-new"], variants=["none"], baselines=["majority"]
        ),
    }
    return Background(**{**full, **tables})


def with_tests():
    """Return the comparison with its paired tests."""
    models = {name: student(dev=0.5, test=s) for name, s in STRENGTHS.items()}
    pairs = pairs_to_test(["none", "combined"], ["majority"], "combined")
    return dataclasses.replace(
        comparison(), differences=differences(models, pairs, GOLD, split="test")
    )


def rendered(compared=None, **tables):
    compared = compared or comparison()
    pictures = draw(compared, SHEETS, CURVES)
    return page(compared, SHEETS, pictures, background(**tables))


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
    compared = dataclasses.replace(
        compared,
        warnings=(text,),
        elsewhere=(dataclasses.replace(named, kind="cited"),),
        differences=tuple(dataclasses.replace(d, one=text) for d in with_tests().differences),
    )
    tables = {
        "quality": quality_table(
            {text: dataclasses.replace(QUALITY["local-new"], reasons={text: 3})}
        ),
        "votes": votes_table({text: {**VOTES["local-new"], "verifier": text}}),
        "diversity": diversity_table({"asks": {text: {"n": 1}}}),
        "spend": spend_table({text: {"usd": text, "requests": text}}),
        "training": training_table({text: HISTORIES["none"]}),
        "origins": [{"what": text, "path": text, "MD5": text}],
    }

    found = Page(rendered(compared, **tables))

    assert found.live_parts() == []
    # row, warning, elsewhere, two sentences and pairs, and the tables; the picture cuts long names
    assert found.text.count(text) >= 3 + 4 + 2 + 2 + 1 + 1 + 1 + 3
    short = summary(compared, SHEETS, background(**tables))
    assert "<script" not in short
    assert "<img" not in short
    assert "](" not in short.replace("\\](", "")


@settings(max_examples=25)  # a page takes 50 ms
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_no_text_at_all_becomes_part_of_the_page(text):
    compared = dataclasses.replace(comparison(), warnings=(text,))
    tables = {
        "quality": quality_table({text: QUALITY["local-new"]}),
        "spend": spend_table({text: {}}),
        "origins": [{"what": text, "path": text, "MD5": text}],
    }

    assert Page(rendered(compared, **tables)).live_parts() == []
    short = summary(compared, SHEETS, background(**tables))
    assert "<" not in short


def test_hostile_names_stay_text_in_pictures_too():
    sheets = {**SHEETS, HOSTILE[1]: sheet(HOSTILE[1], dev=0.95)}
    compared = compare(sheets, variants=["none", HOSTILE[1]], baselines=[], metric="dev.nll")

    pictures = draw(compared, sheets, {HOSTILE[1]: CURVES["none"]})
    html = page(compared, sheets, pictures, background())

    assert Page(html).live_parts() == []


def test_the_page_shows_every_row_and_every_picture():
    found = Page(rendered())

    # intervals, two of the grid, confusion and reliability of three, two curves
    assert len([t for t, _ in found.elements if t == "figure"]) == 1 + 2 + 3 + 3 + 2
    assert len([t for t, _ in found.elements if t == "svg"]) == 1 + 2 + 3 + 3 + 2
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
    found = Page(page(compared, sheets, pictures, background()))

    assert pictures.intervals.picture.tag == "svg"
    assert [p.title for p in pictures.confusions][:3] == ["combined", "majority", "few-shot"]
    assert [p.title for p in pictures.curves] == ["none", "combined"]
    assert (
        found.text.count(f"{SHEETS['majority'].dev.nll:.3f}") == 2
    )  # majority's own, not few-shot's
    dashes = found.text.split().count("-")
    plain = Page(rendered()).text.split().count("-")
    # no control in its line; dev.nll in the table; dev NLL, test NLL, Brier and ECE below
    assert dashes == plain + 1 + 1 + 4


def test_without_asks_the_page_says_so():
    assert "No teacher was asked" in Page(rendered(quality=[])).text
    assert "No teacher was asked" not in Page(rendered()).text


def test_equal_inputs_give_equal_pages_and_others_do_not():
    other = {"local-new": dataclasses.replace(QUALITY["local-new"], kept=40)}

    assert rendered() == rendered()
    assert rendered() != rendered(quality=quality_table(other))


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
        name: dataclasses.replace(s, cells=(*s.cells, dataclasses.replace(s.cells[0], seed=7)))
        for name, s in SHEETS.items()
    }

    assert any("One seed: this run" in told for told in caveats(comparison(), SHEETS))
    assert not any("One seed: this run" in told for told in caveats(comparison(), several))
    assert any("not the official" in told for told in caveats(comparison(), SHEETS))


def test_a_comparison_of_other_variants_is_refused():
    require_known(comparison(), variants=["none", "combined"], baselines=["majority"])
    with pytest.raises(DataError, match=r"lists majority, none: compare again"):
        require_known(comparison(), variants=["none"], baselines=["majority"])


def test_every_tested_difference_is_a_sentence_on_the_page_and_in_the_summary():
    compared = with_tests()
    text = Page(rendered(compared)).text

    assert "combined beats none by " in text
    assert "combined beats majority by " in text
    assert "found four times in five" in " ".join(text.split())
    assert "combined beats none by " in summary(compared, SHEETS, background())
    without = Page(rendered()).text
    assert " beats " not in without


def test_published_lines_of_another_test_set_stand_apart():
    official = {n: dataclasses.replace(s, test_set="official") for n, s in SHEETS.items()}

    compared = comparison(official)
    text = Page(page(compared, official, draw(compared, official, CURVES), background())).text

    assert "human, Jin et al. 2019" in text.split("Published on another test set")[0]
    assert "best of Guo et al. 2023" in text.split("Published on another test set")[1]
    assert "Published on another test set" not in Page(rendered()).text


def test_what_other_stages_measured_is_read_by_key_and_may_be_missing():
    text = Page(rendered()).text

    for said in ("7 of 60", "0.550", "12,345", "1.25", "2" * 32):
        assert said in text
    groups = {
        "toy/new": {"n": 40, "abstained": 10, "answered": 30, "agreed": 12},
        "toy/rewrite": {"n": 11, "abstained": 1, "answered": 10, "agreed": 8},
    }
    [row] = votes_table({"a": {"weight": 0.5, "on_claims": groups}})
    assert (row["abstained"], row["agrees with the teacher"]) == ("11 of 51", "0.500")
    assert row["weight"] == "0.500"
    assert votes_table({"a": {}})[0]["kappa"] == "-"
    assert votes_table({"a": []})[0]["verifier"] == "-"
    assert spend_table({"a": {"usd": "much"}}) == [
        {
            "asked by": "a",
            "dollars": "-",
            "requests": "-",
            "failed": "-",
            "prompt tokens": "-",
            "reply tokens": "-",
        }
    ]
    assert diversity_table([]) == []
    assert spend_table(SPEND)[-1]["dollars"] == "1.25"


def test_training_is_told_in_steps():
    [row] = training_table(HISTORIES)

    assert row == {
        "variant": "none",
        "students": "2",
        "epochs": "2",
        "steps per student": "18",
        "steps in all": "36",
        "best epoch": "2",
    }


def test_origins_are_those_of_the_lock_in_the_order_of_the_pipeline():
    rows = origins_table(OUTS, asks=["local-new"], variants=["none"], baselines=["majority"])

    assert [row["path"] for row in rows] == ["data/raw", "data/checked/local-new", "models/none"]
    assert rows[0]["MD5"] == OUTS["data/raw"]


def test_counts_that_do_not_add_up_are_refused():
    require_whole(QUALITY)
    with pytest.raises(DataError, match="local-new: 41 kept and 20 dropped pairs are not the 60"):
        require_whole({"local-new": dataclasses.replace(QUALITY["local-new"], dropped=20)})


def test_the_summary_is_a_page_of_tables_of_one_width_each():
    text = summary(with_tests(), SHEETS, background())

    assert text.startswith("# medslm: results\n")
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
    assert "## Caveats" in text
    assert "2" * 32 not in text  # hashes are for the page


def test_the_csv_files_of_dvc_hold_the_numbers_of_the_table():
    rows = list(csv.DictReader(io.StringIO(scores_csv(comparison(), "macro_f1"))))
    bins = list(csv.DictReader(io.StringIO(reliability_csv(SHEETS["combined"]))))

    assert [row["variant"] for row in rows] == ["majority", "none", "combined"]
    assert float(rows[2]["macro_f1"]) == pytest.approx(SHEETS["combined"].test.macro_f1, abs=1e-6)
    assert float(rows[2]["low"]) < float(rows[2]["macro_f1"]) < float(rows[2]["high"])
    assert sum(int(row["n"]) for row in bins) == 80
