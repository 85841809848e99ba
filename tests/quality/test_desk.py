"""The verb `review`: writes the page, opens it where there is a screen, merges what it saved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from medslm.cli import main
from medslm.data.records import Dropped
from medslm.files import write_jsonl, write_text
from medslm.quality.decisions import Decision, Download, content_of, read_decisions
from tests.factories import pair, question
from tests.quality.builders import ballot

MEDSLM = Path(sys.executable).parent / "medslm"
PAIRS = [pair(str(n)) for n in range(1, 4)]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    write_text(tmp_path / "params.yaml", yaml.safe_dump({"asks": {"local-rewrite": {}}}))
    write_jsonl(tmp_path / "data/split/train.jsonl", [question(str(n)) for n in range(1, 4)])
    write_jsonl(tmp_path / "data/split/unlabelled.jsonl", [])
    write_jsonl(tmp_path / "data/checked/local-rewrite/kept.jsonl", PAIRS[:2])
    dropped = [Dropped(PAIRS[2], ("too_long",))]
    write_jsonl(tmp_path / "data/checked/local-rewrite/dropped.jsonl", dropped)
    write_jsonl(tmp_path / "data/votes/local-rewrite.jsonl", [ballot(p) for p in PAIRS])
    write_jsonl(tmp_path / "data/review.jsonl", [])
    return tmp_path


def review(*words):
    return CliRunner().invoke(main, ["review", *words])


def test_the_page_is_written_with_all_pairs(project):
    result = review("--no-open")

    assert result.exit_code == 0, result.output
    assert "reports/review.html: 3 pairs" in result.output
    text = (project / "reports/review.html").read_text(encoding="utf-8")
    assert all(p.id in text for p in PAIRS)


def test_what_the_page_saved_is_merged_into_git_s_file_and_the_rest_is_named(project):
    write_jsonl(
        project / "saved.jsonl",
        [
            Download(PAIRS[0].id, content_of(PAIRS[0]), "drop", "why"),
            Download(PAIRS[1].id, "0" * 64, "keep", ""),
        ],
    )

    result = review("--import", "saved.jsonl")

    assert result.exit_code == 0, result.output
    assert "1 decisions; 1 new, 0 changed, 0 as before, 0 cleared, 1 not taken" in result.output
    assert "saved.jsonl:2" in result.stderr
    drop = Decision(PAIRS[0].id, content_of(PAIRS[0]), "drop", "why")
    assert read_decisions(project / "data/review.jsonl") == [drop]
    assert review("--import", "saved.jsonl").output.startswith("not taken")
    assert read_decisions(project / "data/review.jsonl") == [drop]
    assert not (project / "reports").exists()


def test_a_damaged_file_changes_nothing_and_exits_10(project):
    (project / "saved.jsonl").write_text("{}\n", encoding="utf-8")

    result = review("--import", "saved.jsonl")

    assert result.exit_code == 10
    assert "saved.jsonl:1" in result.stderr
    assert (project / "data/review.jsonl").read_bytes() == b""


def test_an_unknown_ask_exits_2_and_one_that_was_not_checked_10(project):
    assert review("--no-open", "--ask", "nobody").exit_code == 2
    asks = {"asks": {"local-rewrite": {}, "later": {}}}
    write_text(project / "params.yaml", yaml.safe_dump(asks))
    result = review("--no-open")
    assert result.exit_code == 10
    assert "medslm run check@later" in result.stderr
    assert review("--no-open", "--ask", "local-rewrite").exit_code == 0


@pytest.mark.parametrize(
    ("screen", "words", "opened"),
    [
        ({"DISPLAY": ":0"}, [], True),
        ({"DISPLAY": ":0"}, ["--no-open"], False),
        ({}, [], sys.platform == "darwin"),
    ],
)
def test_a_browser_is_opened_only_where_there_is_a_screen(project, screen, words, opened):
    browser = project / "browser.sh"
    browser.write_text('#!/bin/sh\nprintf %s "$1" > opened\n', encoding="utf-8")
    browser.chmod(0o755)
    environment = {**os.environ, **screen, "BROWSER": str(browser)}

    subprocess.run([MEDSLM, "review", *words], env=environment, check=True, capture_output=True)

    page = (project / "reports/review.html").as_uri()
    assert (project / "opened").exists() == opened
    assert not opened or (project / "opened").read_text() == page
