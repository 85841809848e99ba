"""compare, run as DVC runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medslm.evaluation.sheet import write_record
from tests.evaluation.worlds import (
    PARAMS,
    STRENGTHS,
    answered_only,
    sheet,
    write_params,
    write_scored,
    write_scores,
)

STAGE = Path(__file__).parents[2] / "stages/compare.py"


def run(root):
    command = [sys.executable, STAGE, "--scores", "score", "--predictions", "predictions"]
    command += ["--test", "split/test.jsonl"]
    command += ["--out", "metrics/compare.json", "--table", "reports/compare.md"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def verdict(root):
    return json.loads((root / "metrics/compare.json").read_text())


@pytest.fixture
def root(tmp_path):
    write_params(tmp_path)
    write_scores(tmp_path)
    return tmp_path


def test_the_verdict_and_the_table_are_written(root):
    done = run(root)

    assert done.returncode == 0, done.stderr
    assert verdict(root)["chosen"] == "combined"
    names = [row["name"] for row in verdict(root)["rows"]]
    assert names == [*PARAMS["compare"]["baselines"], *PARAMS["variants"]]
    table = (root / "reports/compare.md").read_text()
    assert all(f"| {name} |" in table for name in names)


def test_changing_test_scores_leaves_the_choice_and_changing_dev_scores_does_not(root):
    run(root)
    first = verdict(root)["chosen"]

    write_scored(root, "none", dev=STRENGTHS["none"], test=9)
    run(root)
    assert verdict(root)["chosen"] == first

    write_scored(root, "none", dev=9, test=STRENGTHS["none"])
    run(root)
    assert verdict(root)["chosen"] == "none" != first


def test_every_variant_is_tested_against_every_other_and_the_chosen_against_each_baseline(root):
    run(root)

    found = [(d["one"], d["other"]) for d in verdict(root)["differences"]]
    grid = [("rewrite", "none"), ("combined", "none"), ("combined", "rewrite")]
    assert found == [*grid, ("combined", "majority"), ("combined", "zero-shot")]
    assert all(d["p_holm"] >= d["p"] for d in verdict(root)["differences"])
    table = (root / "reports/compare.md").read_text()
    assert (
        table.count("\n- combined ") + table.count("\n- none ") + table.count("\n- rewrite ") == 5
    )


def test_a_control_of_equal_length_fills_the_column(root):
    entries = {**PARAMS["variants"], "none-long": {"asks": [], "as_many_as": "combined"}}
    write_params(root, variants=entries)
    write_scored(root, "none-long", dev=0.1, test=0.3)

    done = run(root)

    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in verdict(root)["rows"]}
    gain = rows["combined"]["accuracy"] - rows["none-long"]["accuracy"]
    assert rows["combined"]["control"] == "none-long"
    assert rows["combined"]["gain"] == pytest.approx(gain, abs=2e-6)
    assert rows["combined"]["gain_low"] < gain < rows["combined"]["gain_high"]
    assert [name for name, row in rows.items() if row["gain"] is not None] == ["combined"]


def test_predictions_of_other_questions_are_refused(root):
    lines = (root / "predictions/none.jsonl").read_text().splitlines()
    (root / "predictions/none.jsonl").write_text("\n".join(lines[:-1]) + "\n")

    done = run(root)

    assert done.returncode == 10
    assert "none answered different test questions" in done.stderr


def test_scores_that_params_do_not_list_are_left_out(root):
    write_params(root, variants={"none": [], "rewrite": ["local-rewrite"]})

    assert run(root).returncode == 0
    assert verdict(root)["chosen"] == "rewrite"


def test_a_teachers_answers_are_a_line_with_a_dash_for_what_they_have_not(root):
    entry = {"teacher": "local", "shots": 3, "prompt": "v1", "seed": 0}
    write_params(
        root,
        answers={"few-shot": entry},
        compare={"metric": "dev.nll", "baselines": ["majority"]},
    )
    write_scored(root, "few-shot", dev=9, test=9)
    write_record(root / "score/few-shot.json", answered_only(sheet("few-shot", dev=9, test=9)))

    done = run(root)

    assert done.returncode == 0, done.stderr
    rows = verdict(root)["rows"]
    names = [row["name"] for row in rows]
    assert names == ["majority", "few-shot", *PARAMS["variants"]]
    assert [row["dev"] is None for row in rows] == [False, True, False, False, False]
    assert verdict(root)["chosen"] in PARAMS["variants"]
    lines = (root / "reports/compare.md").read_text().splitlines()
    [line] = [x for x in lines if x.startswith("| few-shot")]
    assert line.endswith("| - | - | baseline |")


def test_two_runs_write_the_same_bytes(root):
    run(root)
    first = [(root / p).read_bytes() for p in ("metrics/compare.json", "reports/compare.md")]

    run(root)

    assert [
        (root / p).read_bytes() for p in ("metrics/compare.json", "reports/compare.md")
    ] == first


@pytest.mark.parametrize(
    ("sections", "code", "told"),
    [
        ({"variants": {"none": [], "ghost": []}}, 10, "score/ghost.json: no such file"),
        ({"variants": {}}, 2, "variants: is empty"),
        ({"variants": {"smollm2-1.7b": []}}, 2, "variants.smollm2-1.7b"),
        ({"variants": {"../x": []}}, 2, "variants.../x"),
        ({"compare": {"metric": "test.accuracy", "baselines": []}}, 2, "compare.metric"),
        ({"compare": {"metric": "dev.nll", "baselines": [], "n": 1}}, 2, "compare.n: Extra"),
        ({"compare": {"metric": "dev.nll"}}, 2, "compare.baselines: Field required"),
        ({"compare": {"metric": "dev.nll", "baselines": ["none"]}}, 2, "also a baseline"),
        ({"answers": {"none": {}}}, 2, "compare.baselines or answers: rename it"),
        ({"answers": {"few": {}}}, 10, "score/few.json: no such file"),
        ({"answers": {"a.b": {}}}, 2, "answers.a.b"),
        ({"answers": []}, 2, "params.yaml: 1 problem(s): answers"),
    ],
)
def test_bad_params_are_one_line_and_an_exit_code(root, sections, code, told):
    write_params(root, **sections)

    done = run(root)

    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "metrics").exists()
