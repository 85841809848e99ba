"""The ledger brings MLflow into line with dvc.lock, as often as it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medslm.errors import DataError, Diverged, IntegrityError, ParamsError
from medslm.files import write_text
from medslm.tracking.store import finished_run
from tests.tracking.project import MLFLOW_WARNING, Project

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def run_of(store, tracked, name):
    return store.client.get_run(tracked[name].run_id)


def test_every_variant_and_baseline_gets_one_finished_run_with_all_that_shaped_it(project):
    with project.store() as store:
        tracked = project.track(store)
        run = run_of(store, tracked, "new")
        history = store.client.get_metric_history(run.info.run_id, "train/fold0-seed0/dev_loss")
        artifacts = {a.path for a in store.client.list_artifacts(run.info.run_id)}

    assert set(tracked) == {"none", "new", "majority"}
    assert run.info.status == "FINISHED"
    assert run.data.tags["dvc.fingerprint"] == tracked["new"].fingerprint
    assert run.data.params["tune.lr"] == "0.001"
    assert run.data.params["asks.local-new.per_question"] == "2"
    assert run.data.params["teachers.local.temperature"] == "0.7"
    assert run.data.metrics["dev.macro_f1"] == 0.6
    assert "test.nll" not in run.data.metrics
    assert [(m.step, m.value) for m in history] == [(10, 1.0), (20, 0.95)]
    inputs = {
        (i.dataset.name, i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs
    }
    assert {(name, context) for name, _, context in inputs} == {
        ("mix-new", "train"),
        ("dev", "dev"),
        ("test", "test"),
    }
    assert all(len(digest) == 32 for _, digest, _ in inputs)
    assert artifacts == {"dvc.lock", "params.yaml"}


def test_a_plain_variant_and_a_baseline_log_no_params_of_asks_they_do_not_use(project):
    with project.store() as store:
        tracked = project.track(store)

        none, majority = run_of(store, tracked, "none"), run_of(store, tracked, "majority")

    assert none.data.params["variant.asks"] == "[]"
    assert not [k for k in none.data.params if k.startswith(("asks.", "teachers."))]
    assert not [k for k in majority.data.params if k.startswith("tune.")]
    assert majority.data.tags["medslm.kind"] == "baseline"


def test_a_teachers_answers_get_a_run_with_the_params_that_shaped_them(project):
    project.write_answers("few-shot", teacher="local", shots=3)
    project.relock()

    with project.store() as store:
        tracked = project.track(store)
        run, majority = (run_of(store, tracked, name) for name in ("few-shot", "majority"))

    assert run.data.tags["medslm.kind"] == "baseline"
    assert run.data.params["answers.few-shot.shots"] == "3"
    assert run.data.params["teachers.local.temperature"] == "0.7"
    assert not [k for k in run.data.params if k.startswith(("student.", "tune.", "asks."))]
    assert majority.data.params["student.model"] == "base-model"
    assert not [k for k in majority.data.params if k.startswith(("answers.", "teachers."))]


def test_other_answers_make_a_run_of_their_own_and_leave_the_others_alone(project):
    project.write_answers("few-shot", teacher="local", shots=3)
    with project.store() as store:
        first = project.relock().track(store)
        write_text(project.root / "data/answers/few-shot.jsonl", "other replies\n")
        second = project.relock().track(store)

    assert second["few-shot"].run_id != first["few-shot"].run_id
    assert second["majority"].run_id == first["majority"].run_id


@pytest.mark.parametrize("entry", [{"shots": 3}, {"teacher": "nobody", "shots": 3}])
def test_answers_of_nobody_are_named(project, entry):
    project.write_answers("few-shot", **entry)

    named = "teachers.nobody" if "teacher" in entry else "answers.few-shot"
    with pytest.raises(ParamsError, match=named):
        project.relock().records()


def test_tracking_twice_makes_no_second_run_and_other_results_make_one_more(project):
    with project.store() as store:
        first = project.track(store)
        second = project.track(store)
        project.write_variant("new", 0.61)
        third = project.relock().track(store)
        project.write_variant("new", 0.6)
        fourth = project.relock().track(store)
        found = store.client.search_runs([store.experiment_id], "tags.`dvc.fingerprint` != ''")
        count = len(found)

    assert {n: t.run_id for n, t in first.items()} == {n: t.run_id for n, t in second.items()}
    assert not any(t.reused for t in first.values())
    assert all(t.reused for t in second.values())
    assert third["new"].run_id != first["new"].run_id
    assert third["none"].run_id == first["none"].run_id
    assert fourth["new"].run_id == first["new"].run_id
    assert count == 4


def test_an_empty_database_gets_the_same_fingerprints_again(project, tmp_path):
    with project.store() as store:
        before = project.track(store)
    clone = Project(tmp_path / "clone")
    shutil.copytree(project.root, clone.root, ignore=shutil.ignore_patterns("mlflow.db", "mlruns"))

    with clone.store() as store:
        after = clone.track(store)

    assert {n: t.fingerprint for n, t in before.items()} == {
        n: t.fingerprint for n, t in after.items()
    }
    assert not any(t.reused for t in after.values())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_metric_that_is_not_finite_is_refused_before_anything_is_logged(project, number):
    path = project.root / "metrics/score/new.json"
    path.write_text(path.read_text().replace("0.6,", f"{number},"))
    project.relock()

    with project.store() as store:
        with pytest.raises(Diverged, match=r"new\.json: not finite: dev\.macro_f1"):
            project.track(store)
        assert store.client.search_runs([store.experiment_id]) == []


def test_a_learning_curve_that_is_not_finite_is_refused(project):
    path = project.root / "metrics/train/none.csv"
    path.write_text(path.read_text().replace("0.95", "nan"))

    with pytest.raises(Diverged, match="train/fold0-seed0/dev_loss at step 20"):
        project.relock().records()


def test_a_result_that_is_not_the_one_in_dvc_lock_is_refused(project):
    project.write_score("new", 0.99)

    with pytest.raises(IntegrityError, match=r"metrics/score/new\.json: md5 is .*dvc checkout"):
        project.records()


def test_a_variant_that_never_ran_is_named(project):
    project.write_params(variants={"none": [], "new": ["local-new"], "later": []})
    write_text(project.root / "metrics/score/later.json", "{}")

    with pytest.raises(DataError, match="never ran: mix@later, train@later, predict@later"):
        project.records()


def test_an_ask_that_is_not_there_is_named(project):
    project.write_params(variants={"none": ["nobody"], "new": []})

    with pytest.raises(ParamsError, match=r"asks\.nobody"):
        project.records()


def test_a_long_param_is_kept_whole_as_an_artifact(project):
    project.write_params(quality={"phrases": "x" * 7000})
    project.relock()

    with project.store() as store:
        run = run_of(store, project.track(store), "none")
        file = store.client.download_artifacts(run.info.run_id, "params/quality.phrases.txt")

    assert run.data.params["quality.phrases"].startswith("sha256:")
    assert Path(file).read_text() == "x" * 7000


def test_more_than_mlflow_takes_at_once_is_logged_whole(project):
    project.write_params(quality={f"knob_{i:03}": i for i in range(150)})
    path = project.root / "metrics/train/none.csv"
    rows = [f"0,0,1,{i},1.0,1.0,0.5,0.4,0.001" for i in range(400)]
    path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    project.relock()

    with project.store() as store:
        run = run_of(store, project.track(store), "none")
        curve = store.client.get_metric_history(run.info.run_id, "train/fold0-seed0/dev_loss")

    assert sum(k.startswith("quality.knob_") for k in run.data.params) == 150
    assert len(curve) == 400


def test_a_name_mlflow_would_refuse_is_refused_before_anything_is_logged(project):
    project.write_params(quality={"what?": 1})

    with pytest.raises(ParamsError, match=r"quality\.what\?"):
        project.records()


def test_a_run_left_open_by_a_dead_process_is_closed_and_one_of_a_living_stays(project):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    with project.store() as store:
        tracked = project.track(store)
        host = run_of(store, tracked, "none").data.tags["medslm.host"]
        tags = {"medslm.host": host, "medslm.pid": dead.stdout.strip()}
        stale = store.client.create_run(store.experiment_id, tags=tags).info.run_id
        ours = {"medslm.host": host, "medslm.pid": str(os.getpid())}
        living = store.client.create_run(store.experiment_id, tags=ours).info.run_id
        foreign = store.client.create_run(store.experiment_id).info.run_id

        project.track(store)

        statuses = [store.client.get_run(r).info.status for r in (stale, living, foreign)]

    assert statuses == ["KILLED", "RUNNING", "RUNNING"]


def test_a_run_that_was_cut_short_is_not_reused(project):
    with project.store() as store:
        record = project.records()[0]
        store.client.create_run(store.experiment_id, tags={"dvc.fingerprint": record.fingerprint})

        assert finished_run(store, record.fingerprint) is None
        assert not project.track(store)[record.name].reused


def test_two_projects_do_not_share_a_store(project, tmp_path):
    other = Project(tmp_path / "other").fill()

    with project.store() as store:
        project.track(store)
    with other.store() as store:
        tracked = other.track(store)

    assert not any(t.reused for t in tracked.values())
