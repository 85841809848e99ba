"""The stages that validate write a report per thing, always, and the gates stop for the bad ones."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medslm.data.records import ANSWERS
from medslm.data.split import Fold, write_folds
from medslm.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from medslm.quality.verdict import BASELINES, Broken, Outcome, as_json, report_of, wanted
from stages import gate, validate_inputs, validate_mixes, validate_predictions
from tests.factories import example, exchange, prediction, question
from tests.stages.quality_files import PARAMS, run, write_params

# Great Expectations imports modules that Python 3.11 deprecates (sre_constants, sre_parse).
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

ROOT = Path(__file__).parents[2]
QUESTIONS = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 25)]
TRAIN, DEV, TEST = QUESTIONS[:12], QUESTIONS[12:15], QUESTIONS[15:]
ASK = "local-rewrite"
STAGES = {
    "inputs": (validate_inputs.main, ("--raw", "raw", "--split", "split", "--replies", "replies")),
    "mixes": (validate_mixes.main, ("--mix", "mix", "--split", "split")),
    "predictions": (
        validate_predictions.main,
        ("--predictions", "predictions", "--split", "split"),
    ),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variants = {"none": [], "combined": [ASK]}
    write_params(tmp_path, {**PARAMS, "variants": variants})
    write_raw(tmp_path, QUESTIONS)
    parts = {"train": TRAIN, "dev": DEV, "test": TEST, "unlabelled": []}
    for part, questions in parts.items():
        write_jsonl(tmp_path / f"split/{part}.jsonl", questions)
    fold = Fold(tuple(q.pmid for q in TRAIN), tuple(q.pmid for q in DEV))
    write_folds(tmp_path / "split/folds.json", {"0": fold})
    replies = [exchange(q.pmid, content=f"{{{q.pmid}}}") for q in TRAIN]
    write_jsonl(tmp_path / f"replies/{ASK}.jsonl", replies)
    write_mix(tmp_path, "none", real())
    write_mix(tmp_path, "combined", [*real(), generated()])
    for name in ("none", "combined", *BASELINES):
        write_jsonl(tmp_path / f"predictions/{name}.jsonl", predicted())
    return tmp_path


def write_raw(root, questions):
    body = {
        q.pmid: {
            "QUESTION": q.question,
            "CONTEXTS": [s.text for s in q.sections],
            "LABELS": [s.label for s in q.sections],
            "LONG_ANSWER": q.long_answer,
            "final_decision": q.answer,
        }
        for q in questions
    }
    write_text(root / "raw/pqal.json", json.dumps(body))


def real():
    return [example(q.pmid, question=q.question, context=q.context, answer=q.answer) for q in TRAIN]


def generated():
    return example("1", question="Is it shorter?", source=ASK, pair_id=f"{ASK}:1:0")


def write_mix(root, name, examples):
    write_jsonl(root / f"mix/{name}.jsonl", examples)


def predicted():
    shares = {"yes": 0.6, "no": 0.2, "maybe": 0.2}
    rows = []
    for split, part in (("dev", DEV), ("test", TEST)):
        for q in part:
            p = {a: 0.6 if a == q.answer else 0.2 for a in shares}
            rows.append(prediction(q.pmid, split=split, answer=q.answer, probabilities=p))
    return rows


def validate(what, out=None):
    stage, flags = STAGES[what]
    return run(stage, *flags, "--out", out or what)


def judged(what):
    return run(gate.main, "--what", what, "--reports", what, "--out", f"{what}.json")


@pytest.mark.parametrize("what", STAGES)
def test_good_data_pass_and_every_report_that_the_gate_wants_is_there(project, what):
    result = validate(what)

    assert result.exit_code == 0, result.stderr
    names = [ASK] if what == "inputs" else ["none", "combined"]
    files = {one.file for one in wanted(what, names)} | {"broken.jsonl"}
    assert {path.name for path in (project / what).iterdir()} == files
    assert (project / what / "broken.jsonl").read_bytes() == b""
    passed = judged(what)
    assert passed.exit_code == 0, passed.stderr
    assert read_json(project / f"{what}.json")["passed"] is True


def break_inputs(root):
    write_jsonl(root / f"replies/{ASK}.jsonl", [])


def break_mixes(root):
    write_mix(root, "combined", real())


def break_predictions(root):
    write_jsonl(root / "predictions/none.jsonl", [])


@pytest.mark.parametrize(
    ("what", "breaks", "said"),
    [
        ("inputs", break_inputs, f"replies/{ASK}: "),
        ("mixes", break_mixes, "mixes/combined: has_something_of_each(source)"),
        ("predictions", break_predictions, "predictions/none: "),
    ],
)
def test_b09_nothing_where_something_should_be_exits_30_after_the_report_is_written(
    project, what, breaks, said
):
    breaks(project)

    validated, stopped = validate(what), judged(what)

    assert validated.exit_code == 0, validated.stderr
    assert stopped.exit_code == 30
    assert said in stopped.stderr
    assert read_json(project / f"{what}.json")["passed"] is False


def test_b09_a_report_without_expectations_exits_30(project):
    validate("mixes")
    write_json(project / "mixes/mixes-none.json", as_json(report_of("mixes", "none", [])))

    stopped = judged("mixes")

    assert stopped.exit_code == 30
    assert "only 0 expectations were evaluated" in stopped.stderr


def test_b10_numbers_that_are_none_exit_30(project):
    text = (project / "predictions/none.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    rows[0]["probabilities"] = {}
    write_text(project / "predictions/none.jsonl", "".join(json.dumps(r) + "\n" for r in rows))

    validate("predictions")
    stopped = judged("predictions")

    assert stopped.exit_code == 30
    assert "is_never_null(p_yes) broken by 1" in stopped.stderr
    (broken,) = read_jsonl(project / "predictions/broken.jsonl", Broken)
    assert (broken.suite, broken.subject, broken.id) == ("predictions", "none", "dev:0:0:13")


def test_b11_one_answer_throughout_exits_30_with_counts(project):
    write_raw(project, [dataclasses.replace(q, answer="yes") for q in QUESTIONS])

    validate("inputs")
    stopped = judged("inputs")

    assert stopped.exit_code == 30
    assert "raw/questions: has_every_answer(answer) was yes 24, no 0, maybe 0" in stopped.stderr


def test_a_failed_warning_passes_and_is_counted(project):
    cut = [exchange(q.pmid, content=q.pmid, finish_reason="length") for q in TRAIN]
    write_jsonl(project / f"replies/{ASK}.jsonl", cut)

    validate("inputs")
    passed = judged("inputs")

    assert passed.exit_code == 0
    warned = read_json(project / "inputs.json")["reports"][f"replies/{ASK}"]["failed_warning"]
    assert warned == ["few_of_them(is_cut) was 1.0"]


def test_reports_are_the_same_bytes_under_any_hash_seed(project):
    """Real processes: the seed is drawn when Python starts."""
    break_mixes(project)
    bad = exchange("99", content="{}")
    replies = [exchange(q.pmid, content=f"{{{q.pmid}}}") for q in TRAIN]
    write_jsonl(project / f"replies/{ASK}.jsonl", [*replies, bad])
    texts = []
    for seed in ("1", "2"):
        out = project / f"out-{seed}"
        command = [sys.executable, ROOT / "stages/validate_inputs.py", *STAGES["inputs"][1]]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([*command, "--out", out], env=environment, check=True, capture_output=True)
        texts.append({p.name: p.read_bytes() for p in sorted(out.iterdir())})

    assert texts[0] == texts[1]
    assert b"local-rewrite:99:0" in texts[0]["broken.jsonl"]


def test_an_outcome_knows_no_clock_and_no_path(project):
    validate("inputs")
    text = (project / "inputs/raw-questions.json").read_text(encoding="utf-8")

    assert str(project) not in text
    assert {field.name for field in dataclasses.fields(Outcome)} == set(
        json.loads(text)["expectations"][0]
    )
