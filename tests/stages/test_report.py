"""report, run as DVC runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from medslm.evaluation.sheet import write_record
from medslm.files import write_json, write_text
from tests.evaluation.pages import Page
from tests.evaluation.worlds import (
    PARAMS,
    answered_only,
    history,
    sheet,
    write_behind,
    write_histories,
    write_params,
    write_quality,
    write_scored,
    write_scores,
)

STAGES = Path(__file__).parents[2] / "stages"
HOSTILE = "<script>alert(1)</script>"


def compare(root):
    command = [sys.executable, STAGES / "compare.py", "--scores", "score"]
    command += ["--predictions", "predictions", "--test", "split/test.jsonl"]
    command += ["--out", "compare.json", "--table", "compare.md"]
    subprocess.run(command, cwd=root, capture_output=True, check=True)


def run(root, **environment):
    command = [sys.executable, STAGES / "report.py", "--compare", "compare.json"]
    command += ["--scores", "score", "--train-metrics", "train", "--quality", "quality"]
    command += ["--votes", "votes", "--spend", "spend", "--lock", "dvc.lock"]
    command += ["--out", "reports/report.html", "--plots", "reports/plots"]
    command += ["--summary", "reports/summary.md", "--diversity", "diversity.json"]
    return subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def written(root):
    files = sorted(p for p in (root / "reports").rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def root(tmp_path):
    write_params(tmp_path)
    write_scores(tmp_path)
    write_histories(tmp_path)
    write_quality(tmp_path)
    write_behind(tmp_path)
    write_json(tmp_path / "diversity.json", {"asks": {"local-new": {"n": 77}}})
    compare(tmp_path)
    return tmp_path


def test_page_pictures_and_confusion_data_are_written(root):
    done = run(root)

    assert done.returncode == 0, done.stderr
    assert sorted(path.removeprefix("reports/") for path in written(root)) == [
        "plots/accuracy.csv",
        "plots/confusion-combined.svg",
        "plots/confusion-majority.svg",
        "plots/confusion-none.svg",
        "plots/confusion-rewrite.svg",
        "plots/confusion-zero-shot.svg",
        "plots/confusion.csv",
        "plots/curve-combined.svg",
        "plots/curve-none.svg",
        "plots/curve-rewrite.svg",
        "plots/grid-accuracy.svg",
        "plots/grid-macro-f1.svg",
        "plots/intervals.svg",
        "plots/macro-f1.csv",
        "plots/reliability-combined.svg",
        "plots/reliability-majority.svg",
        "plots/reliability-none.svg",
        "plots/reliability-rewrite.svg",
        "plots/reliability-zero-shot.svg",
        "plots/reliability.csv",
        "report.html",
        "summary.md",
    ]
    assert "How varied the questions are" in (root / "reports/report.html").read_text()


def test_every_picture_is_well_formed_and_loads_nothing(root):
    run(root)

    pictures = sorted((root / "reports/plots").glob("*.svg"))
    assert len(pictures) == 16
    for path in pictures:
        text = path.read_text()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert text.count("http") == 1  # the namespace


def test_a_teachers_answers_are_on_the_page_and_have_no_learning_curve(root):
    write_params(root, answers={"few-shot": {"teacher": "local", "shots": 3}})
    write_scored(root, "few-shot", dev=0.5, test=0.5)
    write_record(root / "score/few-shot.json", answered_only(sheet("few-shot")))
    assert run(root).returncode == 10  # the comparison is without them
    compare(root)

    done = run(root)

    assert done.returncode == 0, done.stderr
    files = written(root)
    assert "reports/plots/confusion-few-shot.svg" in files
    assert "reports/plots/curve-few-shot.svg" not in files
    assert b"few-shot" in files["reports/plots/intervals.svg"]
    assert b"few-shot" in files["reports/report.html"]


def test_a_script_in_a_counted_reason_stays_text(root):
    write_quality(root, reasons={HOSTILE: 3}, unreadable={HOSTILE: 1})

    run(root)

    page = Page((root / "reports/report.html").read_text())
    assert page.live_parts() == []
    assert page.text.count(HOSTILE) == 2 * len(PARAMS["asks"])
    assert HOSTILE not in (root / "reports/summary.md").read_text()


def test_what_is_not_measured_yet_is_left_out_and_what_is_stands_on_the_page(root):
    run(root)
    text = Page((root / "reports/report.html").read_text()).text
    for said in (
        "What the votes are worth",
        "0.610",
        "9,000",
        "Where the numbers come from",
        "a" * 32,
    ):
        assert said in text
    assert "0.910" not in text

    diversity = {"real": {"n": 9, "distinct_2": 0.91}, "asks": {"local-new": {"n": 4}}}
    (root / "diversity.json").write_text(json.dumps(diversity))
    for name in ("votes", "spend"):
        for file in (root / name).iterdir():
            file.unlink()
    assert run(root).returncode == 0
    text = Page((root / "reports/report.html").read_text()).text
    assert "What the votes are worth" not in text
    assert "9,000" not in text
    assert "How varied" in text
    assert "0.910" in text


def test_two_runs_write_the_same_bytes_and_other_inputs_do_not(root):
    run(root, PYTHONHASHSEED="1")
    first = written(root)

    run(root, PYTHONHASHSEED="2", LC_ALL="C", PYTHONUTF8="0", TZ="Asia/Tokyo")
    assert written(root) == first

    write_text(root / "train/none.csv", history(best=1))
    run(root)
    changed = {path for path, body in written(root).items() if body != first[path]}
    assert {"reports/plots/curve-none.svg", "reports/report.html"} <= changed
    assert "reports/plots/intervals.svg" not in changed


def test_the_pictures_of_a_variant_that_is_gone_go_too(root):
    run(root)
    write_params(root, variants={"none": [], "combined": ["local-rewrite", "local-new"]})
    compare(root)

    assert run(root).returncode == 0
    assert not (root / "reports/plots/curve-rewrite.svg").exists()
    assert (root / "reports/plots/curve-none.svg").exists()


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (lambda r: (r / "train/none.csv").unlink(), 10, "train/none.csv: no such file"),
        (lambda r: (r / "train/none.csv").write_text("x\n"), 10, "train/none.csv:1: the columns"),
        (lambda r: (r / "quality/local-new.json").unlink(), 10, "local-new.json: no such file"),
        (lambda r: (r / "quality/local-new.json").write_text("{}"), 10, "not a Quality: parsed"),
        (lambda r: (r / "compare.json").write_text("{}"), 10, "not a Comparison: chosen"),
        (lambda r: write_quality(r, dropped=1), 10, "are not the 66 parsed ones"),
        (lambda r: (r / "dvc.lock").unlink(), 10, "holds no dvc.lock"),
        (lambda r: (r / "spend/local-new.json").write_text("{"), 10, "local-new.json: not JSON"),
        (lambda r: write_params(r, variants={"none": []}), 10, "compare again"),
        (lambda r: write_params(r, asks={"a.b": {}}), 2, "asks.a.b"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_last_report_alone(root, damage, code, told):
    run(root)
    before = written(root)
    damage(root)

    done = run(root)

    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert written(root) == before
    assert json.loads((root / ".work/status.json").read_text())["exit_code"] == code
