"""Wrong input, run as DVC runs it: one line that names the thing, its exit code, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from medslm.files import sha256_of, write_json, write_jsonl
from tests.code_deps import ROOT
from tests.factories import question
from tests.teacher.asked import ASK as ASK_PARAMS
from tests.teacher.asked import OPENAI

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STUDY = {
    "QUESTION": "Does it help?",
    "CONTEXTS": ["It helped 7 of 9."],
    "LONG_ANSWER": "It helped most.",
    "final_decision": "yes",
}
API = {**OPENAI, "key_env": "OPENAI_API_KEY", "attempts": 2, "max_wait_s": 1}
FETCH = ["fetch", "--sample", "none.json", "--sample-unlabelled", "none.json", "--out", "data/raw"]
ASK = [
    *["ask", "--ask", "mine", "--train", "train.jsonl", "--unlabelled", "empty.jsonl"],
    *["--out", "data/replies.jsonl", "--metrics", "spend.json"],
]
MIX = [
    "mix",
    "--variant",
    "none",
    "--train",
    "empty.jsonl",
    "--unlabelled",
    "empty.jsonl",
    "--pool",
    "c",
    "--out",
    "data/m.jsonl",
    "--metrics",
    "metrics.json",
]
TRAIN = ["train", "--variant", "none", "--mix", "empty.jsonl", "--dev", "empty.jsonl"]
TRAIN += [
    "--folds",
    "folds.json",
    "--features",
    "none.json",
    "--out",
    "data/models",
    "--curves",
    "data/curves.csv",
]
CLOSED = "http://127.0.0.1:9/v1"


def file(body, sha256=None):
    """Return a change of params that reads a file of this content."""

    def change(folder, params):
        path = folder / "given.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        pinned = sha256 or sha256_of(path)
        given = {"path": "given.json", "sha256": pinned}
        params["data"] = {"source": "file", **given, "unlabelled": None}

    return change


def teacher(**changes):
    def change(folder, params):
        write_jsonl(folder / "train.jsonl", [question("1")])
        params["teachers"] = {"api": {**API, **changes}}
        params["asks"] = {"mine": ASK_PARAMS}

    return change


def section(name, **changes):
    def change(folder, params):
        params[name] = {**params[name], **changes}

    return change


def without(study, key):
    return {k: v for k, v in study.items() if k != key}


@pytest.mark.parametrize(
    ("stage", "change", "code", "said"),
    [
        (FETCH, file("not json"), 10, "pqal.json: not JSON"),
        (FETCH, file({"a": {}}), 10, "PMID a: not PubMedQA: CONTEXTS is missing"),
        (FETCH, file({"1": without(STUDY, "QUESTION")}), 10, "PMID 1: not PubMedQA: QUESTION is"),
        (FETCH, file({"1": {**STUDY, "final_decision": "perhaps"}}), 10, "'perhaps' is not one of"),
        (FETCH, file({"1": STUDY}, "0" * 64), 11, "0" * 64),
        (FETCH, section("data", sauce="x"), 2, "data.sauce: Extra inputs are not permitted"),
        (FETCH, section("data", source="web"), 2, "data: "),
        (FETCH, section("data", unlabelled={"path": "x"}), 2, "data.unlabelled"),
        (FETCH, lambda *_: None, 10, "none.json: no such file"),
        (ASK, teacher(), 20, "OPENAI_API_KEY"),
        (ASK, teacher(base_url=CLOSED, key_env=None), 22, "127.0.0.1:9"),
        (ASK, teacher(temprature=1), 2, "teachers.api.temprature: Extra inputs"),
        (MIX, lambda *_: None, 10, "nothing to train on"),
        (TRAIN, lambda *_: None, 10, "empty.jsonl: the training set is empty"),
        (TRAIN, section("tune", lr=-1), 2, "tune.lr"),
        (TRAIN, section("student", model="nowhere", revision="main"), 10, "the training set is"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(tmp_path, stage, change, code, said):
    params = json.loads(json.dumps(PARAMS))
    change(tmp_path, params)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "empty.jsonl").touch()
    write_json(tmp_path / "folds.json", {"0": {"train": [], "dev": []}})
    name, *flags = stage

    done = subprocess.run(
        [sys.executable, ROOT / "stages" / f"{name}.py", *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    errors = [line for line in done.stderr.split("\n") if line.startswith("error[")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists() or list((tmp_path / "data").iterdir()) == []
    shutil.rmtree(tmp_path)
