"""The stage diversity: numbers and histograms per ask, the same whatever the order."""

from __future__ import annotations

import csv

import pytest
import yaml
from stages.diversity import main

from medslm.files import read_json, write_jsonl
from tests.factories import pair, question
from tests.stages.quality_files import run

QUESTIONS = [
    question(str(n), question=f"Does treatment {'very ' * (n % 3)}{n} shorten the stay of adults?")
    for n in range(1, 9)
]
SAME = [pair(q.pmid, question="Is the stay of adults shorter with it?") for q in QUESTIONS]
OTHER = [
    pair(q.pmid, 1, id=f"new:{q.pmid}:1", question=q.question.replace("shorten", "prolong"))
    for q in QUESTIONS
]
EDITED = [pair("1", 2, id="new:1:2", context=QUESTIONS[0].context.replace("120", "60"))]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "unlabelled.jsonl", [])
    return tmp_path


def measured(project, kept, *, sample=None):
    quality = {"diversity": {"sample": sample, "bin_words": 2}}
    params = {"asks": {ask: {} for ask in kept}, "quality": quality}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for ask, pairs in kept.items():
        write_jsonl(project / "checked" / ask / "kept.jsonl", pairs)
    return run(
        main,
        *("--checked", "checked", "--train", "train.jsonl", "--unlabelled", "unlabelled.jsonl"),
        *("--metrics", "diversity.json", "--plots", "plots"),
    )


def everything(project):
    files = sorted(f for f in (project / "plots").rglob("*") if f.is_file())
    return {str(f): f.read_bytes() for f in [*files, project / "diversity.json"]}


def test_texts_that_are_the_same_differ_from_varied_ones_in_every_number(project):
    assert measured(project, {"same": SAME, "new": [*OTHER, *EDITED]}).exit_code == 0

    found = read_json(project / "diversity.json")
    same, new = found["asks"]["same"], found["asks"]["new"]
    assert (same["n"], new["n"], found["real"]["n"], found["all"]["n"]) == (8, 9, 8, 17)
    assert same["self_bleu_4"] == 1.0 > new["self_bleu_4"]
    assert same["distinct_2"] < new["distinct_2"]
    assert same["question_edits"]["mean"] > new["question_edits"]["mean"] > 0
    assert same["context_edits"] is None
    assert 0 < new["context_edits"]["mean"] < 0.1
    assert found["real"]["question_edits"] is None


def test_the_histograms_are_shares_that_add_up(project):
    measured(project, {"same": SAME, "new": OTHER})

    for folder in ("words", "edits"):
        names = {f.name for f in (project / "plots" / folder).iterdir()}
        assert names == {"same.csv", "new.csv", "_real.csv", "_all.csv"}
    with (project / "plots/words/same.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [{"words": "8", "share": "1.000000"}]
    with (project / "plots/edits/new.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)


def test_order_changes_no_byte_and_other_pairs_do(project):
    measured(project, {"new": OTHER}, sample=4)
    first = everything(project)
    measured(project, {"new": OTHER[::-1]}, sample=4)
    assert everything(project) == first
    assert read_json(project / "diversity.json")["asks"]["new"]["compared"] == 4
    measured(project, {"new": OTHER[1:]}, sample=4)
    assert everything(project) != first


@pytest.mark.parametrize("kept", [{}, {"new": []}])
def test_nothing_kept_is_none_and_no_zero(project, kept):
    assert measured(project, kept).exit_code == 0

    found = read_json(project / "diversity.json")["all"]
    assert (found["n"], found["distinct_1"], found["self_bleu_4"]) == (0, None, None)
    assert found["question_words"]["mean"] is None


def test_a_wrong_knob_exits_2_and_is_named(project):
    result = measured(project, {"new": OTHER}, sample=1)

    assert result.exit_code == 2
    assert "quality.diversity.sample" in result.stderr
