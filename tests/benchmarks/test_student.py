"""The student's benchmarks drive the real code on a tiny model: a broken side shows before a long run."""

from __future__ import annotations

import json

import pytest
from benchmarks.prompts import read_prompts, write_prompts
from benchmarks.score import main as score_main
from benchmarks.sides import run_side
from benchmarks.train import main as train_main
from click.testing import CliRunner

from medslm.student.prompting import prompt
from tests.code_deps import ROOT


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("MEDSLM_PUBMEDQA", raising=False)


def test_both_sides_get_the_same_text(tmp_path):
    file = tmp_path / "prompts.jsonl"

    count = write_prompts(file, 5)

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    ours = read_prompts(file)
    assert count == len(rows) == 5
    assert [row["prompt"] for row in rows] == [prompt(p.context, p.question) for p in ours]
    assert [row["completion"] for row in rows] == [f" {p.answer}" for p in ours]


def test_a_side_that_fails_is_said(tmp_path):
    with pytest.raises(SystemExit, match="no such thing"):
        run_side(["-c", "raise SystemExit('no such thing')"])


@pytest.mark.slow
def test_our_side_of_training_and_scoring_runs(tiny_llama):
    flags = ["--model", str(tiny_llama), "--dtype", "float32", "--layers", "top-2"]

    trained = CliRunner().invoke(train_main, [*flags, "--examples", "6", "--epochs", "2"])
    scored = CliRunner().invoke(score_main, [*flags, "--examples", "6"])

    assert trained.exit_code == 0, trained.output
    assert "| exact, all layers |" in trained.output
    assert "| cached, top-2, 2 epochs |" in trained.output
    assert scored.exit_code == 0, scored.output
    assert "further adapter on stored states" in scored.output
