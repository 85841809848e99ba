"""The pipeline as users run it: a real git and DVC repository, every stage, a tiny random student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from sklearn.metrics import accuracy_score, f1_score

from medslm.cli import main
from medslm.data.records import Dropped, Pair, Prediction
from medslm.evaluation.pooling import pool, rows_of
from medslm.files import read_jsonl, sha256_of, write_jsonl
from medslm.quality.decisions import Download, content_of
from tests.project import Project, stages_in
from tests.tracking.project import MLFLOW_WARNING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ALL = {
    "fetch",
    "split",
    "ask@reworded",
    "parse@reworded",
    "vote@reworded",
    "check@reworded",
    "pool",
    "doubt",
    "validate_inputs",
    "diversity",
    "gate",
    "validate_mixes",
    "gate_mixes",
    "validate_predictions",
    "gate_predictions",
    *(f"{s}@{v}" for s in ("mix", "train", "predict", "score") for v in ("none", "combined")),
    "features",
    "baselines",
    "score_baselines",
    "answer@oracle",
    "score_answers@oracle",
    "compare",
    "report",
    "track",
}
AFTER_SCORES = {"compare", "report", "track"}
# Runs again only where a report of the predictions came out with other counts.
MAYBE = {"gate_predictions"}


def medslm(*words: str) -> str:
    """Run a verb in this process, which has the heavy libraries loaded already."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def chain(variant: str, first: str = "train") -> set[str]:
    steps = ["mix", "train", "predict", "score"]
    return {f"{step}@{variant}" for step in steps[steps.index(first) :]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path):
    """The project after its first run, committed, and the stages that ran."""
    project = Project(tmp_path_factory.mktemp("project"), tiny_llama)
    ran = project.repro()
    project.commit("first run")
    return project, ran


def test_one_command_runs_every_stage_and_a_second_one_none(built):
    project, ran = built

    assert set(ran) == ALL
    assert len(ran) == len(ALL)
    assert project.repro() == []
    assert project.git("status", "--porcelain") == ""


@pytest.mark.filterwarnings(MLFLOW_WARNING)
def test_the_chosen_model_is_promoted_asked_and_traced_by_public_commands(built, monkeypatch):
    project, _ = built
    monkeypatch.chdir(project.root)
    chosen = json.loads((project.root / "metrics/compare.json").read_text())["chosen"]

    said = medslm("promote", "--force", "a tiny random model gains nothing")
    listed = medslm("models")
    card = medslm("models", "--card", "champion")
    medslm("answer", "--batch", "data/split/test.jsonl", "--out", ".work/answers.jsonl")
    traced = medslm("lineage", "champion", "--reproduce")
    kept = (project.root / "data/checked/reworded/kept.jsonl").read_text().splitlines()
    pair = medslm("lineage", json.loads(kept[0])["id"])

    assert "medslm-pubmedqa version 1 is champion" in said
    assert listed.splitlines()[2].split()[:2] == ["1", "challenger,"]
    assert card.startswith(f"# Variant `{chosen}`")
    path = project.root / f"data/predictions/{chosen}.jsonl"
    scored = pool(rows_of(read_jsonl(path, Prediction), "test"))
    lines = (project.root / ".work/answers.jsonl").read_text().splitlines()
    given = {row["pmid"]: row["prediction"] for row in map(json.loads, lines)}
    assert {pmid: one["probabilities"] for pmid, one in given.items()} == {
        pmid: dict(one.probabilities) for pmid, one in scored.items()
    }
    assert {pmid: one["answer"] for pmid, one in given.items()} == {
        pmid: one.answer for pmid, one in scored.items()
    }
    raw = sha256_of(project.root / "data/sample/pqal.json")
    assert f"data/raw/pqal.json  sha256 {raw}" in traced
    assert f"git checkout {project.git('rev-parse', 'HEAD').strip()}" in traced
    assert "python stages/fetch.py --sample" in traced
    assert f"dvc repro mix@{chosen} train@{chosen}" in traced
    assert "mix          combined: 1 row(s)" in pair
    assert "  kept\n" in pair


def test_a_lost_database_and_lost_reports_come_back_with_the_same_fingerprints_and_ids(built):
    project, _ = built
    path = project.root / "reports/mlflow_runs.json"
    before = json.loads(path.read_text())

    shutil.rmtree(project.root / "reports")
    assert set(project.repro()) == {"compare", "report", "track"}
    reports = json.loads(path.read_text())
    (project.root / "mlflow.db").unlink()
    assert stages_in(project.dvc("repro")) == ["track"]
    assert stages_in(project.dvc("repro")) == []  # they are there again
    database = json.loads(path.read_text())

    assert reports == before  # the runs were there: the same ids
    assert database["chosen"] == before["chosen"]
    for name, run in before["runs"].items():
        assert database["runs"][name]["fingerprint"] == run["fingerprint"]
        assert database["runs"][name]["run_id"] != run["run_id"]
    project.commit("runs of another database")


def test_the_submission_scores_in_scikit_learn_as_in_the_metrics(built):
    project, _ = built
    gold = json.loads((project.root / "data/sample/pqal.json").read_text())
    for variant in ("none", "combined"):
        answers = json.loads((project.root / f"predictions/{variant}.json").read_text())
        sheet = json.loads((project.root / f"metrics/score/{variant}.json").read_text())

        truth = [gold[pmid]["final_decision"] for pmid in answers]

        assert len(answers) == 20
        given = list(answers.values())
        assert sheet["test"]["accuracy"] == pytest.approx(accuracy_score(truth, given), abs=1e-6)
        expected = f1_score(truth, given, average="macro", zero_division=0)
        assert sheet["test"]["macro_f1"] == pytest.approx(expected, abs=1e-6)


def test_a_knob_reruns_exactly_what_depends_on_it(built):
    """Four changes, each with its own set of stages: none of them is all, none is empty."""
    project, _ = built

    project.set("tune.lr", 0.02)
    trained = chain("none") | chain("combined") | {"validate_predictions"}
    assert set(project.repro()) - MAYBE == trained | AFTER_SCORES

    project.set("variants.combined", [])
    ran = set(project.repro())
    assert chain("combined", "mix") <= ran
    # all mixes read the whole section, since a control takes the length of another one
    judged = {"validate_mixes", "gate_mixes", "validate_predictions", "gate_predictions"}
    assert ran == chain("combined", "mix") | {"mix@none", "features"} | judged | AFTER_SCORES

    project.set("compare.metric", "dev.accuracy")
    assert set(project.repro()) == AFTER_SCORES

    project.set("track.experiment", "elsewhere")
    assert set(project.repro()) == {"track"}


def test_a_teachers_answers_are_a_line_of_their_own_and_train_nothing(built):
    """The recorded teacher knows every answer, so a mixed-up question would show."""
    project, _ = built
    sheet = json.loads((project.root / "metrics/score/oracle.json").read_text())
    assert (sheet["dev"]["accuracy"], sheet["test"]["accuracy"]) == (1.0, 1.0)
    assert (sheet["dev"]["nll"], sheet["test"]["nll"]) == (None, None)
    assert json.loads((project.root / "metrics/spend/oracle.json").read_text())["usd"] == 0

    project.set("answers.second", {**project.params()["answers"]["oracle"], "seed": 1})
    ran = project.repro()
    # its predictions lie among the others, which are looked at again and found the same
    answered = {"answer@second", "score_answers@second", "validate_predictions"}
    assert set(ran) == answered | AFTER_SCORES
    rows = json.loads((project.root / "metrics/compare.json").read_text())["rows"]
    assert [row["name"] for row in rows if row["kind"] == "baseline"] == [
        "majority",
        "question-only",
        "zero-shot",
        "oracle",
        "second",
    ]

    project.set("answers", {})
    assert set(project.repro()) == AFTER_SCORES
    assert "oracle" not in (project.root / "reports/compare.md").read_text()


def test_two_commits_can_be_compared(built):
    project, _ = built
    project.git("stash", "--include-untracked", "--quiet") if project.git(
        "status", "--porcelain"
    ) else None
    project.dvc("checkout")
    project.repro()
    before = project.git("rev-parse", "HEAD").strip()
    project.set("tune.lr", 0.05)
    project.repro()
    project.commit("higher rate")

    params = json.loads(project.dvc("params", "diff", "--json", before, "HEAD"))
    metrics = json.loads(project.dvc("metrics", "diff", "--json", before, "HEAD"))
    project.dvc("plots", "diff", before, "HEAD", "--out", "dvc_plots")

    assert params["params.yaml"]["tune.lr"] == {"old": 0.01, "new": 0.05, "diff": 0.04}
    changed = metrics["metrics/score/none.json"]
    assert changed["test.nll"]["old"] != changed["test.nll"]["new"]
    page = (project.root / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert before[:7] in page
    assert "metrics/train/none.csv" in page


def test_only_the_knobs_change_is_seen_by_git_after_a_rerun_to_the_same_params(built):
    """Control for exactness: running again with the same params changes no byte under git."""
    project, _ = built
    status = project.git("status", "--porcelain")

    project.repro()

    assert project.git("status", "--porcelain") == status


def test_a_persons_decision_runs_check_again_and_is_followed(built):
    project, _ = built
    project.medslm("review", "--no-open")
    page = (project.root / "reports/review.html").read_text(encoding="utf-8")
    pair = read_jsonl(project.root / "data/checked/reworded/kept.jsonl", Pair)[0]
    assert pair.id in page
    saved = [Download(pair.id, content_of(pair), "drop", "not what was asked")]
    write_jsonl(project.root / "saved.jsonl", saved)

    project.medslm("review", "--import", "saved.jsonl")

    assert project.repro("check@reworded") == ["check@reworded"]
    dropped = read_jsonl(project.root / "data/checked/reworded/dropped.jsonl", Dropped)
    assert [row.reasons for row in dropped if row.pair == pair] == [("dropped_by_reviewer",)]
    assert project.git("status", "--porcelain", "data/review.jsonl") != ""
    assert project.repro("check@reworded") == []
