"""The stage doubt reads real hidden states; off, it needs no model."""

from __future__ import annotations

import copy

import pytest
from stages.doubt import main

from medslm.data.records import ANSWERS, Doubt
from medslm.files import read_json, read_jsonl, write_jsonl
from tests.factories import pair, question
from tests.stages.quality_files import PARAMS, run, write_params, write_project

TRAIN = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 19)]
PAIRS = [pair(q.pmid, answer=q.answer) for q in TRAIN]


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_llama):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, PAIRS, TRAIN)
    write_jsonl(tmp_path / "checked/local-rewrite/kept.jsonl", PAIRS)
    write_params(tmp_path, knobs(tiny_llama))
    return tmp_path


def knobs(model, **overrides):
    params = copy.deepcopy(PARAMS)
    params["quality"]["verifier"].update(model=str(model))
    params["quality"]["doubt"].update({"enabled": True, **overrides})
    return params


def doubt(out="doubt.jsonl"):
    return run(
        main,
        *("--checked", "checked", "--train", "train.jsonl", "--unlabelled", "unlabelled.jsonl"),
        *("--out", out, "--metrics", f"{out}.json"),
    )


def test_every_kept_pair_is_judged_and_the_probe_is_measured(project):
    result = doubt()

    assert result.exit_code == 0, result.stderr
    found = read_jsonl(project / "doubt.jsonl", Doubt)
    assert [d.pair_id for d in found] == sorted(p.id for p in PAIRS)
    claimed = {p.id: p.answer for p in PAIRS}
    assert all(d.self_confidence == d.probabilities[claimed[d.pair_id]] for d in found)
    body = read_json(project / "doubt.jsonl.json")
    assert (body["on_gold"]["n"], body["pairs"]["n"]) == (len(TRAIN), len(PAIRS))
    assert body["trusted"] or not any(d.doubted for d in found)
    assert body["prompts"] == {"n": len(TRAIN) + len(PAIRS), "cut": 0}


def test_the_order_of_pairs_changes_no_byte_and_the_knobs_do(project, tiny_llama):
    doubt("one.jsonl")
    write_jsonl(project / "checked/local-rewrite/kept.jsonl", PAIRS[::-1])
    doubt("two.jsonl")
    write_params(project, knobs(tiny_llama, strength=10.0))
    doubt("other.jsonl")

    one, two, other = ((project / f"{n}.jsonl").read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_off_it_doubts_nothing_and_loads_nothing(project):
    write_params(project, knobs("no/such-model", enabled=False))

    assert doubt().exit_code == 0
    assert (project / "doubt.jsonl").read_bytes() == b""
    assert read_json(project / "doubt.jsonl.json") == {"enabled": False}
