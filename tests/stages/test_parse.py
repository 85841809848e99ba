"""The stage parse writes every reply on one side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stages.parse import main

from medslm.data.records import Pair, Unreadable
from medslm.files import read_jsonl, write_jsonl
from tests.factories import exchange
from tests.stages.quality_files import TRAIN, UNLABELLED, run

REPLIES = [exchange("1"), exchange("2", content=""), exchange("3", content=None)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "train.jsonl", TRAIN)
    write_jsonl(tmp_path / "unlabelled.jsonl", UNLABELLED)
    write_jsonl(tmp_path / "replies.jsonl", REPLIES)
    return tmp_path


def parse(project, out="out"):
    return run(
        main,
        *("--ask", "local-rewrite", "--replies", project / "replies.jsonl"),
        *("--train", project / "train.jsonl", "--unlabelled", project / "unlabelled.jsonl"),
        *("--out", project / out),
    )


def test_replies_become_pairs_and_unreadable_ones(project):
    result = parse(project)

    assert result.exit_code == 0
    pairs = read_jsonl(project / "out" / "pairs.jsonl", Pair)
    unreadable = read_jsonl(project / "out" / "unreadable.jsonl", Unreadable)
    assert [pair.id for pair in pairs] == ["local-rewrite:1:0"]
    assert [reply.reason for reply in unreadable] == ["empty", "failed:stop"]


def test_no_replies_give_two_empty_files(project):
    write_jsonl(project / "replies.jsonl", [])

    assert parse(project).exit_code == 0
    assert (project / "out" / "pairs.jsonl").read_bytes() == b""
    assert (project / "out" / "unreadable.jsonl").read_bytes() == b""


def test_a_second_run_replaces_the_first(project):
    parse(project)
    first = (project / "out" / "pairs.jsonl").read_bytes()
    write_jsonl(project / "replies.jsonl", REPLIES[1:])
    parse(project)
    second = (project / "out" / "pairs.jsonl").read_bytes()
    write_jsonl(project / "replies.jsonl", REPLIES)
    parse(project)

    assert (project / "out" / "pairs.jsonl").read_bytes() == first != second


def test_a_reply_about_a_held_out_question_exits_12_and_writes_nothing(project):
    write_jsonl(project / "replies.jsonl", [*REPLIES, exchange("90")])

    result = parse(project)

    assert result.exit_code == 12
    assert "error[12]: ask local-rewrite: 1 source(s)" in result.stderr
    assert not (project / "out").exists()


def test_a_damaged_line_exits_10_and_is_named(project):
    with (project / "replies.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"key": "k"}) + "\n")

    result = parse(project)

    assert result.exit_code == 10
    assert "replies.jsonl:4: not a Exchange" in result.stderr


def test_the_stage_starts_in_under_a_second_and_bytes_do_not_depend_on_the_machine(project):
    stage = Path(__file__).parents[2] / "stages" / "parse.py"
    flags = ["--ask", "local-rewrite", "--replies", "replies.jsonl", "--train", "train.jsonl"]
    flags += ["--unlabelled", "unlabelled.jsonl"]
    parse(project)

    seconds = []
    for number, seed in enumerate(["0", "1", "2"]):
        env = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "TZ": f"UTC+{number}"}
        started = time.monotonic()
        subprocess.run(
            [sys.executable, stage, *flags, "--out", f"out{seed}"], cwd=project, env=env, check=True
        )
        seconds.append(time.monotonic() - started)
        for name in ("pairs.jsonl", "unreadable.jsonl"):
            written = (project / f"out{seed}" / name).read_bytes()
            assert written == (project / "out" / name).read_bytes()

    assert min(seconds) < 1
