"""Runs of earlier commits come out of git alone, each with the commit that first held it."""

from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner

from medslm.cli import main
from medslm.errors import DataError
from medslm.files import write_text
from medslm.tracking.history import backfill, commits, records_at
from tests.tracking.project import MLFLOW_WARNING, Project, private_environment

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def git(project: Project, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=project.root,
        env=private_environment(project.root),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(project: Project, message: str) -> str:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", message)
    return git(project, "rev-parse", "HEAD")


@pytest.fixture
def told(project: Project) -> tuple[Project, list[str]]:
    """Four commits: results, better ones, ones that are not whole, and a word in a file beside."""
    write_text(project.root / ".gitignore", "models/\ndata/\nmlflow.db*\nmlruns/\n")
    git(project, "init", "--quiet")
    made = [commit(project, "first")]
    project.write_variant("new", 0.7)
    project.relock()
    made.append(commit(project, "better"))
    project.write_score("new", 0.99)
    text = (project.root / "dvc.lock").read_text()
    write_text(project.root / "dvc.lock", text.replace("make score@new", "make score@new again"))
    made.append(commit(project, "a score that is not in dvc.lock"))
    write_text(project.root / "notes.txt", "nothing of ours")
    commit(project, "notes")
    return project, made


def test_only_commits_that_changed_results_count_the_oldest_first(told):
    project, made = told

    assert commits(project.root, "HEAD") == made
    assert commits(project.root, made[0]) == made[:1]


def test_the_runs_of_every_commit_are_logged_once_and_say_which_first_held_them(told):
    project, (first, better, odd) = told
    before = git(project, "status", "--porcelain")

    with project.store() as store:
        filled = list(backfill(store, project.root, "HEAD"))
        again = list(backfill(store, project.root, "HEAD"))
        runs = store.client.search_runs([store.experiment_id])
    held = {
        (r.data.tags["medslm.variant"], r.data.metrics["dev.macro_f1"]): r.data.tags["git.commit"]
        for r in runs
    }

    assert [(f.commit, f.logged, f.reused) for f in filled] == [
        (first, 3, 0),
        (better, 1, 2),
        (odd, 0, 0),
    ]
    assert [(f.logged, f.reused) for f in again] == [(0, 3), (0, 3), (0, 0)]
    assert f"{odd[:7]}/" not in str(filled[2].left_out)
    assert "metrics/score/new.json: md5 is" in str(filled[2].left_out)
    assert held == {
        ("none", 0.5): first,
        ("new", 0.6): first,
        ("majority", 0.3): first,
        ("new", 0.7): better,
    }
    assert git(project, "status", "--porcelain") == before


def test_a_run_from_git_is_the_run_that_track_would_have_made(told):
    project, (first, *_) = told
    git(project, "checkout", "--quiet", first)
    project.write_variant("new", 0.6)
    ours = {r.name: r for r in project.records()}

    theirs = {r.name: r for r in records_at(project.root, first)}

    assert theirs.keys() == ours.keys()
    for name, record in theirs.items():
        assert record.fingerprint == ours[name].fingerprint
        assert record.params == ours[name].params
        assert list(record.curve) == list(ours[name].curve)
        assert record.texts == ours[name].texts
    assert theirs["new"].cells == []  # the cards of models are not in git


def test_a_revision_that_is_none_is_named(told):
    project, _ = told

    with pytest.raises(DataError, match=r"git log failed: .*nowhere"):
        commits(project.root, "nowhere")
    with pytest.raises(DataError, match="git log failed"):
        commits(project.root, "--output=x")
    assert not (project.root / "x").exists()


def test_a_lost_database_gets_all_of_history_back_by_one_command(told, monkeypatch):
    project, (first, better, odd) = told
    monkeypatch.chdir(project.root)
    project.lay_empty_database()

    done = CliRunner().invoke(main, ["sync", "--history", "HEAD"])

    lines = [
        line for line in done.output.splitlines() if line[:7] in (first[:7], better[:7], odd[:7])
    ]
    assert done.exit_code == 0, done.output
    assert lines[0] == f"{first[:7]}: 3 run(s) logged, 0 were there"
    assert lines[1] == f"{better[:7]}: 1 run(s) logged, 2 were there"
    assert lines[2].startswith(f"{odd[:7]}: left out: ")
