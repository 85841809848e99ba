"""The champion moves only for results that are committed, current, whole and better."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medslm.data.records import Prediction
from medslm.errors import DataError, LockHeld, NotPromotable, TrackingDown
from medslm.files import lock, read_json, read_jsonl, write_json, write_jsonl, write_text
from medslm.tracking import promote as promoting
from medslm.tracking import registry
from medslm.tracking.adapters import PREDICTIONS
from medslm.tracking.claims import claimed
from medslm.tracking.gains import Gained, on_dev
from medslm.tracking.ledger import summary
from medslm.tracking.promote import promote, rollback
from medslm.tracking.registry_lock import held
from tests.tracking.project import (
    EXPERIMENT,
    MLFLOW_WARNING,
    MODEL,
    Project,
    predictions,
    private_environment,
    questions,
)

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def run(project: Project, *command: str) -> None:
    subprocess.run(
        command,
        cwd=project.root,
        env=private_environment(project.root),
        check=True,
        capture_output=True,
    )


def commit(project: Project) -> None:
    """Let DVC accept the files as they are, and git the rest."""
    run(project, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    git_commit(project)


def git_commit(project: Project) -> None:
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message", "results")


def graph(project: Project) -> dict[str, dict]:
    """Return the stages as dvc.yaml has them: one `foreach` for all that differ only in a name."""
    found: dict[str, dict] = {}
    for full_name, stage in project.stages().items():
        name, _, item = full_name.partition("@")
        if name in found:
            found[name]["foreach"].append(item)
            continue
        body = {
            "cmd": stage["cmd"],
            "deps": stage["deps"],
            "params": ["tune"],
            "outs": [{path: {"cache": False}} for path in stage["outs"]],
        }
        if item:
            templated = json.loads(json.dumps(body).replace(item, "${item}"))
            body = {"foreach": [item], "do": templated}
        found[name] = body
    return found


def track_and_write(project: Project) -> None:
    with project.store() as store:
        tracked = project.track(store)
        version = project.register(store, tracked)
    report = summary(EXPERIMENT, tracked, chosen="new", version=version, own=True)
    write_json(project.root / "reports/mlflow_runs.json", report)


@pytest.fixture(scope="module")
def committed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A real git and DVC project whose pipeline is finished and committed; copied by each test."""
    project = Project(tmp_path_factory.mktemp("committed") / "project").fill().tune(tiny_llama)
    ignored = ["mlflow.db*", "mlruns/", ".work/", ".site-cache/"]
    write_text(project.root / ".gitignore", "\n".join(ignored) + "\n")
    write_text(project.root / "dvc.yaml", yaml.safe_dump({"stages": graph(project)}))
    run(project, "git", "init", "--quiet")
    run(project, sys.executable, "-m", "dvc", "init", "--quiet")
    run(project, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    track_and_write(project)
    git_commit(project)
    return project


@pytest.fixture
def clone(committed: Project, tmp_path: Path) -> Project:
    """A clone as a colleague has it: the files of the commit, and no store."""
    made = Project(tmp_path / "clone")
    skipped = shutil.ignore_patterns("mlflow.db", "mlruns", ".work", ".site-cache")
    shutil.copytree(committed.root, made.root, ignore=skipped)
    return made


@pytest.fixture
def project(clone: Project) -> Project:
    """The clone with a store of its own that holds what its reports/mlflow_runs.json says."""
    with clone.store() as store:
        clone.register(store, clone.track(store))
    return clone


def aliases(project: Project) -> dict[str, str | None]:
    with project.store() as store:
        names = ("champion", "challenger", "previous")
        return {name: registry.alias(store, MODEL, name) for name in names}


def crown_other(project: Project, dev_f1: float, *, dev_md5: str | None = None) -> str:
    """Make another version champion, with this score on these dev questions."""
    with project.store() as store:
        ours = registry.version(store, MODEL, "1")
        tags = {
            **ours.tags,
            "dvc.fingerprint": f"other {dev_f1}",
            "metric.dev.macro_f1": repr(dev_f1),
        }
        if dev_md5 is not None:
            tags["medslm.dev_md5"] = dev_md5
        source = store.client.get_model_version_download_uri(MODEL, "1")
        made = store.client.create_model_version(MODEL, source, run_id=ours.run_id, tags=tags)
        store.client.set_registered_model_alias(MODEL, "champion", made.version)
        return str(made.version)


def test_the_lock_of_the_tests_is_the_one_dvc_writes(committed):
    theirs = yaml.safe_load((committed.root / "dvc.lock").read_text())["stages"]
    before = {n: [(o["path"], o["md5"]) for o in s["outs"]] for n, s in theirs.items()}

    committed.relock()
    ours = yaml.safe_load((committed.root / "dvc.lock").read_text())["stages"]
    run(committed, "git", "checkout", "dvc.lock")

    assert {n: sorted((o["path"], o["md5"]) for o in s["outs"]) for n, s in ours.items()} == {
        n: sorted(outs) for n, outs in before.items()
    }
    assert any(md5.endswith(".dir") for outs in before.values() for _, md5 in outs)


def test_the_first_champion_beats_the_majority_baseline_and_is_tagged(project):
    done = promote(project.root)

    with project.store() as store:
        tags = registry.version(store, MODEL, "1").tags
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True
    )
    assert (done.version, done.previous, done.moved) == ("1", None, True)
    assert (done.metric, done.value, done.beaten) == ("dev.macro_f1", 0.6, 0.3)
    said = "medslm-pubmedqa version 1 is champion: dev.macro_f1 0.6 (before: 0.3), gain "
    assert str(done) == f"{said}{tags['promote.gain']}"
    assert tags["git.commit"] == head.stdout.strip()
    assert tags["metric.dev.macro_f1"] == "0.6"
    assert tags["metric.test.accuracy"] == "0.65"
    assert aliases(project) == {"champion": "1", "challenger": "1", "previous": None}


def test_promoting_again_changes_nothing(project):
    promote(project.root)

    again = promote(project.root)

    assert not again.moved
    assert str(again) == "medslm-pubmedqa version 1 is the champion already"


def test_a_better_model_takes_over_and_rollback_undoes_and_redoes_it(project):
    other = crown_other(project, 0.55)

    done = promote(project.root)
    taken_over = aliases(project)
    back = rollback(project.root)
    rolled_back = aliases(project)
    rollback(project.root)

    assert (done.previous, done.beaten) == (other, 0.55)
    assert taken_over == {"champion": "1", "challenger": "1", "previous": other}
    assert (back.version, back.previous) == (other, "1")
    assert str(back) == f"{MODEL} version {other} is champion again; version 1 is kept"
    assert rolled_back == {"champion": other, "challenger": "1", "previous": "1"}
    assert aliases(project) == taken_over


@pytest.mark.parametrize("champion_f1", [0.6, 0.7])
def test_no_gain_over_the_champion_is_refused_unless_forced_with_a_reason(project, champion_f1):
    other = crown_other(project, champion_f1)

    with pytest.raises(NotPromotable, match=r"new has dev\.macro_f1 0\.6, champion version 2 has"):
        promote(project.root)
    refused = aliases(project)
    done = promote(project.root, force_reason="the old one was trained on leaked questions")

    assert refused["champion"] == other
    assert done.version == "1"
    with project.store() as store:
        tags = registry.version(store, MODEL, "1").tags
    assert tags["promote.forced"] == "the old one was trained on leaked questions"


def test_a_champion_measured_on_other_dev_questions_cannot_be_beaten(project):
    crown_other(project, 0.1, dev_md5="other")

    with pytest.raises(NotPromotable, match="was measured on other dev questions"):
        promote(project.root)


def test_no_gain_is_known_over_a_champion_of_fewer_dev_questions(project, tmp_path):
    """Both models' questions taken together are then those of the candidate: force has to do."""
    ours = project.root / "data/predictions/new.jsonl"
    rows = read_jsonl(ours, Prediction)
    for name, without in (("fewer", questions("dev")[0].pmid), ("whole", None)):
        write_jsonl(tmp_path / name / PREDICTIONS, [r for r in rows if r.pmid != without])
    claim = claimed(project.root)

    def gained(ours: str, theirs: str) -> Gained | None:
        rival = promoting._Rival("champion", 0.1, None, tmp_path / theirs / PREDICTIONS)
        return promoting._interval(project.root, claim, tmp_path / ours, rival, on_dev)

    assert gained("whole", "fewer") is None
    assert gained("fewer", "whole") is None
    assert gained("whole", "whole") == Gained(0.0, 0.0, 0.0, 1.0, 8)


def test_no_gain_over_the_majority_baseline_is_refused(project):
    project.write_score("majority", 0.6)
    commit(project)

    with pytest.raises(NotPromotable, match=r"the majority baseline has 0\.6: no gain"):
        promote(project.root)


def test_a_lower_negative_log_likelihood_is_a_gain(project):
    student = project.params["student"]
    project.write_params(student=student, compare={"metric": "dev.nll", "baselines": ["majority"]})
    git_commit(project)

    done = promote(project.root)

    assert (done.value, done.beaten) == (0.4, 0.7)


def test_a_dirty_tree_is_refused(clone):
    write_text(clone.root / "notes.txt", "not committed")

    with pytest.raises(
        NotPromotable, match=r"1 file\(s\) are not committed \(notes\.txt\); commit"
    ):
        promote(clone.root)


def test_a_stale_pipeline_is_refused(clone):
    write_text(clone.root / "data/split/train.jsonl", "changed\n")
    git_commit(clone)

    with pytest.raises(
        NotPromotable, match=r"stage\(s\) are out of date \(mix@new, mix@none, split"
    ):
        promote(clone.root)


def test_results_that_were_not_tracked_are_refused(clone):
    clone.write_variant("new", 0.65)
    commit(clone)

    with pytest.raises(NotPromotable, match=r"new in dvc\.lock is not the one that was tracked"):
        promote(clone.root)


def test_another_choice_than_the_tracked_one_is_refused(clone):
    write_json(clone.root / "metrics/compare.json", {"chosen": "none"})
    git_commit(clone)

    with pytest.raises(NotPromotable, match="this commit chose none of"):
        promote(clone.root)


def test_a_gate_that_did_not_pass_is_refused(clone):
    write_json(clone.root / "metrics/gate.json", {"passed": False})
    git_commit(clone)

    with pytest.raises(NotPromotable, match="the quality gate did not pass"):
        promote(clone.root)


def test_a_version_made_from_other_results_is_refused(project):
    with project.store() as store:
        store.client.set_model_version_tag(MODEL, "1", "dvc.fingerprint", "other")

    with pytest.raises(NotPromotable, match="version 1 was made from another"):
        promote(project.root)


def test_a_damaged_package_is_refused(project):
    weights = next((project.root / "mlruns").rglob("adapter_model.safetensors"))
    weights.write_bytes(b"damaged")

    with pytest.raises(NotPromotable, match="sha256 is"):
        promote(project.root)
    assert aliases(project)["champion"] is None


@pytest.mark.parametrize("change", [{"n": 7}, {"unanswered": 1}])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_an_evaluation_that_is_not_complete_is_refused(clone, split, change):
    path = clone.root / "metrics/score/new.json"
    body = read_json(path)
    write_json(path, {**body, split: {**body[split], **change}})
    clone.relock()
    with clone.store() as store:
        report = summary(
            EXPERIMENT,
            tracked := clone.track(store),
            chosen="new",
            version=clone.register(store, tracked),
            own=True,
        )
    write_json(clone.root / "reports/mlflow_runs.json", report)
    commit(clone)

    with pytest.raises(NotPromotable, match=f"new.json: {split}: . of 8 questions scored, . unans"):
        promote(clone.root)


def recommit(project: Project) -> None:
    """Track and commit the project as it is now."""
    commit(project)
    track_and_write(project)
    git_commit(project)


def test_a_model_that_answers_otherwise_than_it_was_scored_is_refused(project):
    rows = read_jsonl(project.root / "data/predictions/new.jsonl", Prediction)
    shares = {"yes": 0.01, "no": 0.01, "maybe": 0.98}
    changed = [dataclasses.replace(r, probabilities=shares, answer="maybe") for r in rows]
    write_jsonl(project.root / "data/predictions/new.jsonl", changed)
    recommit(project)

    with pytest.raises(NotPromotable, match=r"answers test PMID 201 with .* it was scored with"):
        promote(project.root, force_reason="the trial is not overridden by force")
    assert aliases(project)["champion"] is None


def test_a_model_of_another_base_than_the_one_here_is_refused(project):
    card = project.root / "models/new/card.json"
    write_json(card, {**read_json(card), "base_sha256": "0" * 64})
    recommit(project)

    with pytest.raises(
        NotPromotable, match=r"does not load and answer: base model .* is here, the adapters"
    ):
        promote(project.root)


def test_a_package_of_another_split_is_refused(project):
    write_jsonl(project.root / "data/predictions/new.jsonl", predictions(0.5)[:-8])
    recommit(project)

    with pytest.raises(NotPromotable, match="no answer to test PMID 201"):
        promote(project.root)


def test_the_interval_of_the_gain_is_shown_and_kept_and_hangs_on_both_models(project):
    asked = []

    def paired(ours, theirs, gold, metric):
        asked.append((ours, theirs, gold, metric))
        return Gained(0.3, -0.1, 0.6, 0.3, len(gold))

    done = promote(project.root, paired=paired)

    [(ours, theirs, gold, metric)] = asked
    with project.store() as store:
        tags = registry.version(store, MODEL, "1").tags
    assert ours == read_jsonl(project.root / "data/predictions/new.jsonl", Prediction)
    assert theirs == read_jsonl(project.root / "data/predictions/majority.jsonl", Prediction)
    assert gold == {q.pmid: q.answer for q in questions("dev")}
    assert metric == "dev.macro_f1"
    said = (
        "+0.300 on 8 questions, 95 % -0.100 to +0.600 (too narrow for so few), p .30: "
        "not shown to be more than chance"
    )
    assert str(done).endswith(f"macro_f1 0.6 (before: 0.3), gain {said}")
    assert tags["promote.gain"] == said


def test_a_champions_own_recorded_answers_are_what_the_gain_is_over(project):
    crown_other(project, 0.55)
    asked = []

    promote(project.root, paired=lambda *words: asked.append(words))

    [(ours, theirs, *_)] = asked
    assert ours == theirs  # the other one is the same package
    assert theirs != read_jsonl(project.root / "data/predictions/majority.jsonl", Prediction)


def test_while_another_holds_the_registry_nobody_else_moves_its_aliases(project):
    with project.store() as store, held(store, MODEL):
        with pytest.raises(
            NotPromotable, match=f"process {os.getpid()} on .* is promoting or rolling"
        ):
            promote(project.root)
        with pytest.raises(
            NotPromotable, match=r"delete the registered model medslm-pubmedqa\.promotion"
        ):
            rollback(project.root)
    assert aliases(project)["champion"] is None

    promote(project.root)

    with project.store() as store:
        assert [m.name for m in store.client.search_registered_models()] == [MODEL]


def test_the_lock_of_a_dead_promotion_is_taken_over_and_one_of_another_host_is_not(project):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()
    name = f"{MODEL}.promotion"
    with project.store() as store:
        elsewhere = {"medslm.host": "elsewhere", "medslm.pid": dead, "medslm.owner": "x"}
        store.client.create_registered_model(name, tags=elsewhere)
    with pytest.raises(NotPromotable, match=f"process {dead} on elsewhere"):
        promote(project.root)
    with project.store() as store:
        store.client.set_registered_model_tag(name, "medslm.host", socket.gethostname())

    assert promote(project.root).moved


def test_a_lost_registry_is_told_how_to_come_back(clone):
    with clone.store():
        pass

    with pytest.raises(NotPromotable, match=r"no version 1 of .*--single-item track"):
        promote(clone.root)


def test_only_one_promotion_runs_at_a_time(project):
    held = lock(project.root / ".work/promote.lock", "promotion")
    with held, pytest.raises(LockHeld):
        promote(project.root)


def test_a_promotion_cut_short_between_two_aliases_is_finished_by_the_next(project):
    other = crown_other(project, 0.55)
    with project.store() as store:
        note = f'{{"champion": "1", "previous": "{other}", "why": "promote"}}'
        store.client.set_registered_model_tag(MODEL, "medslm.alias_move", note)
        store.client.set_registered_model_alias(MODEL, "previous", other)

    done = promote(project.root)

    assert (done.version, done.previous) == ("1", other)
    assert aliases(project) == {"champion": "1", "challenger": "1", "previous": other}


def test_a_rollback_cut_short_is_finished_and_not_undone(project):
    other = crown_other(project, 0.55)
    with project.store() as store:
        note = f'{{"champion": "1", "previous": "{other}", "why": "rollback"}}'
        store.client.set_registered_model_tag(MODEL, "medslm.alias_move", note)

    done = rollback(project.root)

    assert (done.version, done.previous) == ("1", other)


def test_without_a_previous_champion_there_is_nothing_to_go_back_to(project):
    with pytest.raises(NotPromotable, match="no previous champion"):
        rollback(project.root)
    promote(project.root)
    with pytest.raises(NotPromotable, match="no previous champion"):
        rollback(project.root)


def test_a_registry_that_cannot_be_reached_is_no_refusal(clone, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    with pytest.raises(TrackingDown):
        rollback(clone.root)


def test_outside_of_git_nothing_is_promoted(clone):
    shutil.rmtree(clone.root / ".git")

    with pytest.raises(NotPromotable, match="`git status --porcelain` failed"):
        promote(clone.root)


def test_the_report_of_runs_names_what_is_promoted(committed):
    report = read_json(committed.root / "reports/mlflow_runs.json")

    assert report["chosen"]["version"] == "1"
    assert report["runs"]["new"]["fingerprint"] == report["chosen"]["fingerprint"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"chosen": {"variant": "new"}}'])
def test_a_report_of_runs_that_is_something_else_is_named(clone, text):
    write_text(clone.root / "reports/mlflow_runs.json", text)
    git_commit(clone)

    with pytest.raises(DataError, match="not a report of the track stage"):
        promote(clone.root)


def test_a_metric_the_model_lacks_is_named(project):
    student = project.params["student"]
    project.write_params(student=student, compare={"metric": "dev.nll", "baselines": ["majority"]})
    path = project.root / "metrics/score/new.json"
    write_json(path, {**read_json(path), "dev": {"macro_f1": 0.6, "nll": None}})
    recommit(project)

    with pytest.raises(NotPromotable, match=r"new\.json: has no dev\.nll"):
        promote(project.root)


def test_e09_of_two_promotions_at_once_the_better_model_is_never_replaced_by_the_worse(
    project, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root}/mlflow.db")
    better = Project(tmp_path / "better")
    skipped = shutil.ignore_patterns("mlflow.db", "mlruns", ".work", ".site-cache")
    shutil.copytree(project.root, better.root, ignore=skipped)
    better.write_score("new", 0.7)
    recommit(better)
    code = "import sys; from pathlib import Path; from medslm.tracking.promote import promote\n"
    code += "from medslm.errors import MedslmError\n"
    code += "try: promote(Path(sys.argv[1]))\nexcept MedslmError as e: sys.exit(e.exit_code)"
    uri = {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}

    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(p.root)],
            env={**private_environment(p.root), **uri},
            stderr=subprocess.DEVNULL,
        )
        for p in (project, better)
    ]
    worse_code, better_code = [p.wait(timeout=120) for p in started]
    champion = aliases(project)["champion"]

    assert {worse_code, better_code} <= {0, NotPromotable.exit_code}
    assert 0 in (worse_code, better_code)
    assert champion == ("2" if better_code == 0 else "1")
    promote(better.root)
    with pytest.raises(NotPromotable, match="no gain"):
        promote(project.root)
    assert aliases(project)["champion"] == "2"
