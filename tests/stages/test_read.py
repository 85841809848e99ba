"""read, run as DVC runs it, and score after it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from medslm.data.records import Prediction
from medslm.files import read_jsonl, write_jsonl
from tests.evaluation.worlds import studies, write_split
from tests.factories import exchange

STAGES = Path(__file__).parents[2] / "stages"
DEV, TEST = studies(3000, 20), studies(5000, 80)
SPLIT = ["--dev", "split/dev.jsonl", "--test", "split/test.jsonl", "--folds", "split/folds.json"]


def said(question):
    """The gold answer for most, another one for every third, prose for every tenth."""
    number = int(question.pmid)
    if number % 10 == 0:
        return "I cannot say."
    return json.dumps({"answer": "no" if number % 3 == 0 else question.answer})


def replies(questions=(*DEV, *TEST)):
    return [
        exchange(q.pmid, strategy="answer", prompt="answer/chat-v1", content=said(q))
        for q in questions
    ]


def run(root, stage, *flags):
    return subprocess.run(
        [sys.executable, STAGES / f"{stage}.py", *flags, *SPLIT],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def read(root):
    return run(root, "read", "--replies", "answers.jsonl", "--out", "predictions.jsonl")


def score(root, *more):
    flags = ["--variant", "few-shot", "--predictions", "predictions.jsonl", "--out", "score.json"]
    return run(root, "score", *flags, *more)


@pytest.fixture
def root(tmp_path):
    write_split(tmp_path)
    write_jsonl(tmp_path / "answers.jsonl", replies())
    return tmp_path


def test_the_replies_become_predictions_and_what_said_nothing_is_counted(root):
    done = read(root)

    assert done.returncode == 0, done.stderr
    assert "100 replies; unanswered: unreadable 10" in done.stderr
    rows = read_jsonl(root / "predictions.jsonl", Prediction)
    assert [(r.split, r.pmid) for r in rows] == [
        *(("dev", q.pmid) for q in DEV),
        *(("test", q.pmid) for q in TEST),
    ]
    assert sum(row.answer is None for row in rows) == 10


def test_the_score_is_that_of_scikit_learn_with_silence_as_a_wrong_answer(root):
    read(root)

    done = score(root)

    assert done.returncode == 0, done.stderr
    sheet = json.loads((root / "score.json").read_text())
    rows = [r for r in read_jsonl(root / "predictions.jsonl", Prediction) if r.split == "test"]
    truth, given = [q.answer for q in TEST], [r.answer or "none" for r in rows]
    assert sheet["test"]["accuracy"] == round(accuracy_score(truth, given), 6)
    labels = ["yes", "no", "maybe"]
    expected = f1_score(truth, given, labels=labels, average="macro", zero_division=0)
    assert sheet["test"]["macro_f1"] == round(expected, 6)
    assert (sheet["test"]["unanswered"], sheet["dev"]["unanswered"]) == (8, 2)
    assert (sheet["test"]["nll"], sheet["dev"]["nll"]) == (None, None)


def test_the_bytes_depend_on_the_replies_and_not_on_their_order(root):
    read(root)
    first = (root / "predictions.jsonl").read_bytes()

    write_jsonl(root / "answers.jsonl", replies()[::-1])
    read(root)
    assert (root / "predictions.jsonl").read_bytes() == first

    write_jsonl(
        root / "answers.jsonl",
        [exchange("3000", strategy="answer", content="maybe"), *replies()[1:]],
    )
    read(root)
    assert (root / "predictions.jsonl").read_bytes() != first


def test_replies_to_other_questions_are_refused_and_nothing_is_written(root):
    write_jsonl(root / "answers.jsonl", replies([*DEV, *TEST[1:]]))

    done = read(root)

    assert done.returncode == 10
    assert "answers: the PMIDs are not all and only the 100 expected: 1 missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "predictions.jsonl").exists()


def test_a_submission_needs_every_answer(root):
    read(root)

    done = score(root, "--submission", "submission.json")

    assert done.returncode == 10
    assert "8 have none" in done.stderr
    assert not (root / "submission.json").exists()
