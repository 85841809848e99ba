"""The exported dataset: loads back as it was, guesses no type, says where it is from, runs nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import datasets
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medslm.cli import main
from medslm.data.mix import mix
from medslm.data.records import Pair
from medslm.errors import DataError
from medslm.files import read_jsonl, sha256_of, write_json, write_jsonl, write_text
from medslm.quality.card import plain
from medslm.quality.decisions import Decision, content_of
from medslm.quality.export import COLUMNS, as_csv, rows_of, write_dataset
from tests.factories import pair, question

SOURCES = [question("0012"), question("2"), question("3", answer="no")]
PAIRS = [
    pair("0012", question="Is 0012 shorter?", long_answer="0012"),
    pair("2", question="=cmd|' /C calc'!A0", answer="no", long_answer="+1"),
    pair("3", context="Another abstract, µ and \u2029.", answer="maybe", long_answer=""),
]
ROWS = rows_of({"local-rewrite": PAIRS}, SOURCES)


def without(row, *names):
    return {key: value for key, value in row.items() if key not in names}


def test_every_pair_is_a_row_with_the_abstract_it_is_about():
    assert [row["id"] for row in ROWS] == sorted(p.id for p in PAIRS)
    by_pmid = {row["pmid"]: row for row in ROWS}
    assert by_pmid["2"]["context"] == SOURCES[1].context
    assert by_pmid["3"]["context"] == "Another abstract, µ and \u2029."
    assert by_pmid["3"]["source_answer"] == "no"
    assert all(tuple(row) == COLUMNS for row in ROWS)


def test_arrow_and_parquet_load_back_as_they_were_and_0012_stays_text(tmp_path):
    write_dataset(tmp_path / "out", ROWS, card="card", with_csv=False)

    arrow = datasets.load_from_disk(str(tmp_path / "out/arrow"))
    parquet = datasets.Dataset.from_parquet(
        str(tmp_path / "out/data/train.parquet"), cache_dir=str(tmp_path / "cache")
    )

    expected = datasets.Features({name: datasets.Value("string") for name in COLUMNS})
    for loaded in (arrow, parquet):
        assert loaded.features == expected
        assert list(loaded) == ROWS
    assert "0012" in arrow["pmid"]
    assert "0012" in arrow["long_answer"]


def test_a_column_without_a_value_keeps_its_type(tmp_path):
    rows = rows_of({"a": [pair("7")]}, [question("7", answer=None)])
    write_dataset(tmp_path / "one", rows, card="", with_csv=False)

    loaded = datasets.load_from_disk(str(tmp_path / "one/arrow"))
    assert {str(f.dtype) for f in loaded.features.values()} == {"string"}
    assert loaded[0]["source_answer"] is None


def test_no_pairs_are_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no kept pair to export"):
        write_dataset(tmp_path / "out", [], card="", with_csv=True)
    assert not (tmp_path / "out").exists()


def test_equal_pairs_give_equal_bytes_in_any_order_and_others_do_not(tmp_path):
    def everything(name, pairs):
        rows = rows_of({"local-rewrite": pairs}, SOURCES)
        write_dataset(tmp_path / name, rows, card="{parquet_sha256}", with_csv=True)
        files = sorted(f for f in (tmp_path / name).rglob("*") if f.is_file())
        return {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files}

    assert everything("one", PAIRS) == everything("two", PAIRS[::-1]) != everything("x", PAIRS[1:])


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("work")

    with pytest.raises(DataError, match="name a new folder"):
        write_dataset(tmp_path, ROWS, card="", with_csv=False)
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]


def test_a_pair_without_a_source_or_twice_is_refused():
    with pytest.raises(DataError, match="PMID 9, which is not a training one"):
        rows_of({"a": [pair("9")]}, SOURCES)
    with pytest.raises(DataError, match="occurs twice"):
        rows_of({"a": [PAIRS[0]], "b": [PAIRS[0]]}, SOURCES)


FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(1+1)", "+1", "-1+1", "\t=1", "\r=1", "\n=1", "\uff1d1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_b14_a_formula_is_neutral_in_csv_and_unchanged_elsewhere(tmp_path, text):
    bad = pair("2", question=text, long_answer=text)
    write_jsonl(tmp_path / "kept.jsonl", [bad])
    rows = rows_of({"a": read_jsonl(tmp_path / "kept.jsonl", Pair)}, SOURCES)
    write_dataset(tmp_path / "out", rows, card="", with_csv=True)

    with (tmp_path / "out/pairs.csv").open(newline="", encoding="utf-8") as stream:
        (cells,) = csv.DictReader(stream)

    assert (cells["question"], cells["long_answer"]) == (f"'{text}", f"'{text}")
    (row,) = datasets.load_from_disk(str(tmp_path / "out/arrow"))
    assert row["question"] == text
    assert read_jsonl(tmp_path / "kept.jsonl", Pair) == [bad]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5))
def test_b14_no_cell_of_the_csv_starts_a_formula_and_every_cell_is_there(texts):
    pairs = [pair("2", n, question=text, long_answer=text) for n, text in enumerate(texts)]

    cells = list(csv.DictReader(io.StringIO(as_csv(rows_of({"a": pairs}, SOURCES)), newline="")))

    assert len(cells) == len(texts)
    for row in cells:
        assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values())
        assert row["question"].removeprefix("'") in {text.removeprefix("'") for text in texts}


HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](//x.test/a.png)",
    "${7*7}",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {
        "data": {"source": "pubmedqa", "unlabelled": None},
        "asks": {"local-rewrite": {"teacher": "local"}, "other": {"teacher": "gpt"}},
        "teachers": {
            "local": {"backend": "local", "model": "/home/me/models/smollm2", "revision": None},
            "gpt": {"backend": "openai", "model": HOSTILE[0] + HOSTILE[1]},
        },
        "variants": {"none": [], "some": ["local-rewrite"], "both": ["local-rewrite", "other"]},
    }
    write_text(tmp_path / "params.yaml", yaml.safe_dump(params))
    write_jsonl(tmp_path / "data/split/train.jsonl", SOURCES)
    write_jsonl(tmp_path / "data/split/unlabelled.jsonl", [])
    kept = {"local-rewrite": PAIRS, "other": [pair("2", 7, id="other:2:7", question="Is it so?")]}
    for ask, pairs in kept.items():
        write_jsonl(tmp_path / f"data/checked/{ask}/kept.jsonl", pairs)
        counts = {"replies": 9, "parsed": 8, "kept": len(pairs), "reasons": {"too_long": 5}}
        write_json(tmp_path / f"metrics/quality/{ask}.json", counts)
    write_json(tmp_path / "metrics/gate.json", {"passed": True})
    first = Decision(PAIRS[0].id, content_of(PAIRS[0]), "keep", "")
    write_jsonl(tmp_path / "data/review.jsonl", [first])
    mixed = mix(SOURCES, [], {"local-rewrite": PAIRS[:2]}).examples
    write_jsonl(tmp_path / "data/mix/some.jsonl", mixed * 2)
    return tmp_path


def export(*words):
    return CliRunner().invoke(main, ["export", "--out", "out", *words])


def ids(folder):
    return sorted(datasets.load_from_disk(str(folder / "out/arrow"))["id"])


def test_all_kept_pairs_are_exported_and_the_card_says_what_they_are(project):
    result = export("--csv")

    assert result.exit_code == 0, result.output
    assert ids(project) == [
        "local-rewrite:0012:0",
        "local-rewrite:2:0",
        "local-rewrite:3:0",
        "other:2:7",
    ]
    card = (project / "out/README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "other"
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train.parquet"}]
    assert [f["name"] for f in front["dataset_info"]["features"]] == list(COLUMNS)
    assert "4 pairs" in card
    assert "| local-rewrite | 9 | 8 | 3 | too\\_long 5 |" in card
    assert "PubMedQA's (MIT licence" in card
    assert "Great Expectations): passed" in card
    assert "decided on 1 pair(s)" in card
    assert sha256_of(project / "out/data/train.parquet") in card
    assert sha256_of(project / "data/checked/other/kept.jsonl") in card
    assert re.search(r"rewrite/completion-v1 \([0-9a-f]{64}\)", card)
    assert "/home/me" not in card
    assert "smollm2" in card
    assert str(project) not in card


def test_the_folder_loads_as_a_dataset_repository_would(project):
    export()

    loaded = datasets.load_dataset(
        str(project / "out"), split="train", cache_dir=str(project / "c")
    )

    assert sorted(loaded["pmid"]) == ["0012", "2", "2", "3"]
    assert {str(f.dtype) for f in loaded.features.values()} == {"string"}


def test_one_ask_or_what_a_variant_is_trained_on_can_be_exported(project):
    assert export("--ask", "other").exit_code == 0
    assert ids(project) == ["other:2:7"]
    (project / "out").rename(project / "first")

    assert export("--variant", "some").exit_code == 0
    assert ids(project) == sorted(p.id for p in PAIRS[:2])
    assert "the variant some is trained on" in (project / "out/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--ask", "nobody"], 2, "nobody"),
        (["--variant", "nobody"], 2, "nobody"),
        (["--variant", "some", "--ask", "other"], 2, "exclude each other"),
        (["--variant", "both"], 10, "both.jsonl"),
    ],
)
def test_what_is_not_there_is_one_line_and_writes_nothing(project, words, code, told):
    result = export(*words)

    assert (result.exit_code, told in result.stderr) == (code, True), result.output
    assert not (project / "out").exists()


def test_a_mix_with_pairs_that_are_no_longer_kept_is_out_of_date(project):
    write_jsonl(project / "data/checked/local-rewrite/kept.jsonl", PAIRS[1:])

    result = export("--variant", "some")

    assert result.exit_code == 10
    assert "1 pair(s) that are no longer kept; run `medslm run mix@some`" in result.stderr


@pytest.mark.parametrize(("passed", "told"), [(False, "**failed**"), (None, "was not run")])
def test_the_card_does_not_hide_a_gate_that_failed_or_did_not_run(project, passed, told):
    (project / "metrics/gate.json").unlink()
    if passed is not None:
        write_json(project / "metrics/gate.json", {"passed": passed})

    export()

    assert told in (project / "out/README.md").read_text(encoding="utf-8")


def test_b13_markup_in_names_is_text_in_the_card(project):
    export()

    card = (project / "out/README.md").read_text(encoding="utf-8")
    body = card.split("---", 2)[2]
    assert "<script>" not in body
    assert not re.search(r"(?<!\\)[\[<][^|]*(script|javascript)", body)
    assert "alert(1)" in body


@pytest.mark.parametrize("text", HOSTILE)
def test_b13_plain_text_is_the_same_text_without_its_marks(text):
    assert re.sub(r"\\(.)", r"\1", plain(text)) == text
    assert not re.search(r"(?<!\\)[<\[!$`]", plain(text))
    assert plain("a\nb\u2028c") == "a b c"


def test_an_export_holds_what_check_kept_and_nothing_else():
    """Every field of a pair is a column, so that a new one is not left out by accident."""
    fields = {field.name for field in dataclasses.fields(Pair)}

    assert fields <= set(COLUMNS)
