"""The stage pool: what stays of all asks together, and why the rest goes."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from stages.pool import main

from medslm.data.records import Doubt, Dropped, Pair
from medslm.files import read_json, read_jsonl, write_jsonl
from medslm.quality.decisions import Decision, content_of
from tests.factories import pair
from tests.stages.quality_files import PARAMS, run

A = [pair("1"), pair("2")]
TWIN = dataclasses.replace(pair("1", teacher="other"), id="b:1:0")
OTHER = dataclasses.replace(pair("2", answer="no", teacher="other"), id="b:2:0")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "checked/a/kept.jsonl", A)
    write_jsonl(tmp_path / "checked/b/kept.jsonl", [TWIN, OTHER])
    write_jsonl(tmp_path / "doubt.jsonl", [])
    write_jsonl(tmp_path / "review.jsonl", [])
    return tmp_path


def pooled(project, out="pool", asks=("a", "b")):
    body = {**PARAMS, "asks": {ask: {} for ask in asks}}
    (project / "params.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    flags = ("--checked", "checked", "--doubt", "doubt.jsonl", "--review", "review.jsonl")
    return run(main, *flags, "--out", out, "--metrics", f"{out}.json")


def everything(project, out="pool"):
    files = sorted((project / out).iterdir())
    return [f.name for f in files], [f.read_bytes() for f in files]


def test_twins_and_contradictions_across_asks_go_with_their_reasons(project):
    assert pooled(project).exit_code == 0

    assert everything(project)[0] == ["a.jsonl", "b.jsonl", "dropped.jsonl"]
    kept = [p for ask in "ab" for p in read_jsonl(project / f"pool/{ask}.jsonl", Pair)]
    dropped = read_jsonl(project / "pool/dropped.jsonl", Dropped)
    assert len(kept) == 1
    assert kept[0] in (A[0], TWIN)
    assert {row.pair.id: row.reasons for row in dropped if row.pair.pmid == "2"} == {
        "local-rewrite:2:0": ("contradiction",),
        "b:2:0": ("contradiction",),
    }
    counts = read_json(project / "pool.json")
    assert (counts["checked"], counts["kept"], counts["dropped"]) == (4, 1, 3)


def test_the_order_of_asks_in_params_changes_no_byte_and_other_asks_do(project):
    pooled(project, "one", ("a", "b"))
    pooled(project, "two", ("b", "a"))
    pooled(project, "fewer", ("a",))

    assert everything(project, "one") == everything(project, "two")
    assert (project / "one.json").read_bytes() == (project / "two.json").read_bytes()
    assert read_jsonl(project / "fewer/a.jsonl", Pair) == A


def test_without_asks_the_pool_is_empty_and_an_unchecked_ask_is_named(project):
    assert pooled(project, asks=()).exit_code == 0
    assert everything(project) == (["dropped.jsonl"], [b""])

    missing = pooled(project, "other", asks=("a", "ghost"))

    assert missing.exit_code == 10
    assert "ghost/kept.jsonl: no such file" in missing.stderr
    assert not (project / "other").exists()


def test_a_doubted_answer_goes_and_a_suspected_one_stays(project):
    row = {"yes": 0.1, "no": 0.8, "maybe": 0.1}
    doubted = Doubt("local-rewrite:1:0", row, 0.1, suspected=True, doubted=True)
    only_suspected = Doubt("local-rewrite:2:0", row, 0.1, suspected=True, doubted=False)
    write_jsonl(project / "doubt.jsonl", [doubted, only_suspected])

    assert pooled(project, asks=("a",)).exit_code == 0

    dropped = read_jsonl(project / "pool/dropped.jsonl", Dropped)
    assert [(row.pair.id, row.reasons) for row in dropped] == [
        ("local-rewrite:1:0", ("doubted_label",))
    ]


def test_what_a_person_keeps_stays_though_doubted_and_a_changed_pair_does_not(project):
    row = {"yes": 0.1, "no": 0.8, "maybe": 0.1}
    write_jsonl(
        project / "doubt.jsonl", [Doubt(p.id, row, 0.1, suspected=True, doubted=True) for p in A]
    )
    decisions = [
        Decision(A[0].id, content_of(A[0]), "keep", ""),
        Decision(A[1].id, "0" * 64, "keep", ""),
    ]
    write_jsonl(project / "review.jsonl", decisions)

    assert pooled(project, asks=("a",)).exit_code == 0

    assert read_jsonl(project / "pool/a.jsonl", Pair) == A[:1]
    (gone,) = read_jsonl(project / "pool/dropped.jsonl", Dropped)
    assert (gone.pair.id, gone.reasons) == (A[1].id, ("doubted_label",))
