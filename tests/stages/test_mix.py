"""The stage mix: the training set of a variant, and controls as long as another one."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml
from stages.mix import main

from medslm.data.records import Example
from medslm.files import read_json, read_jsonl, write_jsonl
from tests.factories import pair, question
from tests.stages.quality_files import run

QUESTIONS = [question(str(n)) for n in range(1, 6)]
ASKS = {"rewrite": {}, "new": {}}
VARIANTS = {
    "none": [],
    "combined": ["rewrite", "new"],
    "none-long": {"asks": [], "as_many_as": "combined"},
}


@pytest.fixture
def project(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "unlabelled.jsonl", [])
    kept = [pair(q.pmid) for q in QUESTIONS]
    write_jsonl(tmp_path / "pool/rewrite.jsonl", kept)
    other = [pair(q.pmid, 1, question=f"Is stay {q.pmid} equal?") for q in QUESTIONS[:3]]
    write_jsonl(tmp_path / "pool/new.jsonl", other)
    return tmp_path


def mixed(project, variant, variants=VARIANTS):
    params = {"asks": ASKS, "variants": variants}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    return run(
        main,
        *("--params", project / "params.yaml", "--variant", variant),
        *("--train", project / "train.jsonl", "--unlabelled", project / "unlabelled.jsonl"),
        *("--pool", project / "pool", "--out", project / f"{variant}.jsonl"),
        *("--metrics", project / f"{variant}.json"),
    )


def rows(project, variant):
    assert mixed(project, variant).exit_code == 0
    return read_jsonl(project / f"{variant}.jsonl", Example)


def test_a_control_has_as_many_rows_as_the_variant_it_names_and_nothing_of_its_asks(project):
    none, combined = rows(project, "none"), rows(project, "combined")
    control = rows(project, "none-long")

    assert (len(none), len(combined), len(control)) == (5, 13, 13)
    assert {e.source for e in control} == {"real"}
    assert set(control) == set(none)
    assert sorted(Counter(e.pmid for e in control).values()) == [2, 2, 3, 3, 3]
    assert control[:10] == none * 2


def test_the_same_control_is_the_same_bytes_and_another_name_draws_another_remainder(project):
    first = rows(project, "none-long")
    assert rows(project, "none-long") == first
    draws = set()
    for name in ("a", "b", "c", "d", "e"):
        variants = {**VARIANTS, name: VARIANTS["none-long"]}
        assert mixed(project, name, variants).exit_code == 0
        draws.add(tuple(e.pmid for e in read_jsonl(project / f"{name}.jsonl", Example)[10:]))

    assert len(draws) > 1


@pytest.mark.parametrize(
    ("entry", "code", "told"),
    [
        ({"asks": [], "as_many_as": "ghost"}, 2, "'ghost' is not one of variants"),
        ({"asks": [], "as_many_as": "x"}, 2, "'x' has as_many_as itself"),
        ({"asks": [], "as_many_as": "none-long"}, 2, "'none-long' has as_many_as itself"),
        ({"asks": [], "as_many": "combined"}, 2, "as_many"),
        ({"asks": ["ghost"], "as_many_as": "combined"}, 2, "'ghost' is not one of asks"),
        ({"asks": ["rewrite"], "as_many_as": "none"}, 10, "10 examples cannot be repeated up to 5"),
        ("rewrite", 2, "variants.x"),
    ],
)
def test_a_control_that_makes_no_sense_is_one_line(project, entry, code, told):
    result = mixed(project, "x", {**VARIANTS, "x": entry})

    assert result.exit_code == code
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (project / "x.jsonl").exists()


def test_quotas_thin_generated_examples_and_a_control_follows_that_length(project):
    kept = [pair(q.pmid, 2, question=f"Is stay {q.pmid} rarer?", answer="no") for q in QUESTIONS]
    write_jsonl(project / "pool/new.jsonl", kept)
    entry = {"asks": ["rewrite", "new"], "quotas": {"no": 0.25}, "seed": 0}
    variants = {**VARIANTS, "capped": entry, "long": {"asks": [], "as_many_as": "capped"}}

    assert mixed(project, "capped", variants).exit_code == 0
    assert mixed(project, "long", variants).exit_code == 0

    capped = read_jsonl(project / "capped.jsonl", Example)
    assert Counter(e.answer for e in capped) == {"yes": 10, "no": 4}  # a quarter of 14 is 3.5
    assert [e for e in capped if e.source == "real"] == rows(project, "none")
    assert len(read_jsonl(project / "long.jsonl", Example)) == 14
    assert len(rows(project, "combined")) == 15


def test_the_metrics_count_rows_by_source_and_answer_and_what_was_left_out_by_reason(project):
    no = [pair(q.pmid, 2, question=f"Is stay {q.pmid} rarer?", answer="no") for q in QUESTIONS]
    again = pair("1", 3, question=QUESTIONS[0].question)
    write_jsonl(project / "pool/new.jsonl", [*no, again, pair("2", 4, answer="maybe")])
    entry = {"asks": ["rewrite", "new"], "quotas": {"no": 0.25}, "seed": 0}
    variants = {**VARIANTS, "capped": entry, "long": {"asks": [], "as_many_as": "capped"}}

    counts = {}
    for variant in variants:
        assert mixed(project, variant, variants).exit_code == 0
        counts[variant] = read_json(project / f"{variant}.json")

    nothing = {"contradiction": 0, "duplicate": 0, "over_quota": 0}
    real = {"yes": 5, "no": 0, "maybe": 0}
    assert counts["none"] == {"rows": 5, "by_source": {"real": real}, "left_out": nothing}
    rewrites = {"yes": 4, "no": 0, "maybe": 0}  # the fifth asks what another answers with maybe
    assert counts["capped"] == {
        "rows": 13,
        "by_source": {"real": real, "rewrite": rewrites, "new": {"yes": 0, "no": 4, "maybe": 0}},
        "left_out": {"contradiction": 2, "duplicate": 1, "over_quota": 1},
    }
    assert counts["combined"]["left_out"] == {**nothing, "contradiction": 2, "duplicate": 1}
    assert counts["long"] == {
        "rows": 13,
        "by_source": {"real": {"yes": 13, "no": 0, "maybe": 0}},
        "left_out": nothing,
    }


@pytest.mark.parametrize(
    ("quotas", "told"),
    [
        ({"perhaps": 0.5}, "perhaps"),
        ({"no": 0}, "quotas.no"),
        ({"no": 1.5}, "quotas.no"),
        ({}, "quotas"),
        ({"yes": 0.3, "no": 0.3, "maybe": 0.3}, "add up to 0.9"),
    ],
)
def test_quotas_that_make_no_sense_are_one_line(project, quotas, told):
    result = mixed(project, "x", {"x": {"asks": ["rewrite"], "quotas": quotas, "seed": 0}})

    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_variant_that_is_not_there_is_named(project):
    result = mixed(project, "ghost")

    assert (result.exit_code, "variants.ghost" in result.stderr) == (2, True)
