"""score, run as DVC runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from medslm.data.records import Prediction
from medslm.files import read_jsonl, write_json, write_jsonl
from tests.evaluation.worlds import studies, write_predictions, write_split

STAGE = Path(__file__).parents[2] / "stages/score.py"


def run(root, *, name="none", submit=True, **flags):
    command = {
        "--variant": name,
        "--predictions": f"predictions/{name}.jsonl",
        "--dev": "split/dev.jsonl",
        "--test": "split/test.jsonl",
        "--folds": "split/folds.json",
        "--out": f"score/{name}.json",
        **({"--submission": f"submissions/{name}.json"} if submit else {}),
        **flags,
    }
    words = [word for pair in command.items() for word in pair]
    return subprocess.run(
        [sys.executable, STAGE, *words], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.fixture
def root(tmp_path):
    write_split(tmp_path)
    write_predictions(tmp_path)
    return tmp_path


def test_the_sheet_and_the_submission_are_written(root):
    done = run(root)

    assert done.returncode == 0, done.stderr
    sheet = json.loads((root / "score/none.json").read_text())
    assert (sheet["variant"], sheet["test"]["n"], sheet["dev"]["n"]) == ("none", 80, 20)
    assert sheet["test"]["accuracy_low"] < sheet["test"]["accuracy"]
    assert "test accuracy" in done.stderr
    answers = json.loads((root / "submissions/none.json").read_text())
    assert sorted(answers) == sorted(q.pmid for q in studies(5000, 80))


def test_the_submission_scores_the_same_in_scikit_learn_as_in_the_sheet(root):
    run(root)

    # what evaluation.py of the benchmark does with the file
    gold = {q.pmid: q.answer for q in studies(5000, 80)}
    answers = json.loads((root / "submissions/none.json").read_text())
    pmids = list(gold)
    truth, given = [gold[p] for p in pmids], [answers[p] for p in pmids]
    sheet = json.loads((root / "score/none.json").read_text())
    assert sheet["test"]["accuracy"] == round(accuracy_score(truth, given), 6)
    assert sheet["test"]["macro_f1"] == round(f1_score(truth, given, average="macro"), 6)


def test_the_bytes_depend_on_the_predictions_and_not_on_their_order(root):
    run(root)
    first = (root / "score/none.json").read_bytes()
    rows = read_jsonl(root / "predictions/none.jsonl", Prediction)

    write_jsonl(root / "predictions/none.jsonl", rows[::-1])
    run(root)
    assert (root / "score/none.json").read_bytes() == first

    write_predictions(root, strength=0.1)
    run(root)
    assert (root / "score/none.json").read_bytes() != first


def test_a_missing_question_is_named_and_nothing_is_written(root):
    rows = read_jsonl(root / "predictions/none.jsonl", Prediction)
    write_jsonl(root / "predictions/none.jsonl", rows[:-1])

    done = run(root)

    assert done.returncode == 10
    assert "test: the PMIDs are not all and only the 80 expected: 1 missing (5079)" in done.stderr
    assert not (root / "score").exists()
    assert not (root / "submissions").exists()


def test_an_unanswered_question_stops_the_submission_but_not_the_score(root):
    text = (root / "predictions/none.jsonl").read_text().splitlines()
    row = json.loads(text[-1])
    row["answer"] = None
    (root / "predictions/none.jsonl").write_text("\n".join([*text[:-1], json.dumps(row)]) + "\n")

    assert run(root).returncode == 10
    assert not (root / "score").exists()
    assert run(root, submit=False).returncode == 0
    sheet = json.loads((root / "score/none.json").read_text())
    assert sheet["test"]["unanswered"] == 1


@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (lambda r: (r / "predictions/none.jsonl").unlink(), 10, "no such file"),
        (lambda r: (r / "predictions/none.jsonl").write_text("{}\n"), 10, "not a Prediction"),
        (lambda r: (r / "predictions/none.jsonl").write_text(""), 10, "no predictions"),
        (lambda r: (r / "split/folds.json").write_text("{}"), 10, "not in the split"),
        (lambda r: write_json(r / "split/folds.json", {"0": {}}), 10, "not a file of folds"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(root, damage, code, told):
    damage(root)

    done = run(root)

    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((root / ".work/status.json").read_text())["exit_code"] == code


def test_the_stage_starts_in_under_a_second():
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([sys.executable, STAGE, "--help"], capture_output=True, check=True)
        seconds.append(time.monotonic() - started)

    assert min(seconds) < 1  # about 0.2 on a quiet machine; the best of three on a busy one
