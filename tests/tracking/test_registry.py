"""Registered versions are whole, found again by fingerprint, and never trusted by their word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from medslm.errors import DataError, IntegrityError, NotPromotable
from medslm.files import sha256_of
from medslm.tracking import package, registry
from tests.tracking.project import MLFLOW_WARNING, MODEL

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


def artifact_folder(store, version) -> Path:
    location = store.client.get_model_version_download_uri(version.name, version.version)
    return Path(location.removeprefix("file://"))


def test_the_chosen_model_becomes_the_challenger_with_all_it_needs_but_not_the_base(project):
    with project.store() as store:
        tracked = project.track(store)

        version = project.register(store, tracked)

        folder = artifact_folder(store, version)
        mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
        assert registry.alias(store, MODEL, "challenger") == version.version
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    config = mlmodel["flavors"]["python_function"]["config"]
    assert version.run_id == tracked["new"].run_id
    assert version.tags["dvc.fingerprint"] == tracked["new"].fingerprint
    assert version.tags["medslm.variant"] == "new"
    assert "artifacts/adapters/fold0-seed0/adapter_model.safetensors" in files
    assert not [
        f for f in files if f.endswith(("model.safetensors", ".bin")) and "adapter" not in f
    ]
    assert sum((folder / f).stat().st_size for f in files) < 20_000_000
    assert config["base_sha256"] == "b" * 64
    assert config["labels"] == ["yes", "no", "maybe"]
    assert config["prompt"] == "abstract-question-answer-v1"
    assert [c["name"] for c in json.loads(mlmodel["signature"]["inputs"])] == [
        "question",
        "context",
    ]
    assert [c["name"] for c in json.loads(mlmodel["signature"]["outputs"])] == [
        "yes",
        "no",
        "maybe",
        "answer",
    ]
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    assert not [line for line in requirements if line.startswith("medslm")]


def test_a_versions_scores_are_linked_to_its_logged_model_and_to_the_questions_they_are_of(project):
    with project.store() as store:
        tracked = project.track(store)
        project.register(store, tracked)

        run = store.client.get_run(tracked["new"].run_id)
        [output] = run.outputs.model_outputs
        model = store.client.get_logged_model(output.model_id)
        history = store.client.get_metric_history(run.info.run_id, "dev.macro_f1")
    scores = {(m.key, m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    digests = {i.dataset.name: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert ("dev.macro_f1", 0.6, "dev", digests["dev"]) in scores
    assert ("test.accuracy", 0.65, "test", digests["test"]) in scores
    assert model.source_run_id == run.info.run_id
    assert model.status.value == "READY"
    assert len(history) == 1  # linking adds no second value to the run
    assert not [key for key, *_ in scores if not key.startswith(("dev.", "test."))]


def test_the_same_model_is_the_same_version_and_another_is_a_new_one(project):
    with project.store() as store:
        first = project.register(store, project.track(store))
        again = project.register(store, project.track(store))
        project.write_variant("new", 0.7)
        project.relock()
        other = project.register(store, project.track(store))
        project.write_variant("new", 0.6)
        project.relock()
        back = project.register(store, project.track(store))

        assert (first.version, again.version, other.version, back.version) == ("1", "1", "2", "1")
        assert registry.alias(store, MODEL, "challenger") == "1"


def test_a_kill_between_upload_and_registration_leaves_no_version_and_a_rerun_makes_one(project):
    with project.store() as store:
        tracked = project.track(store)
        half = store.client.create_logged_model(store.experiment_id, name=MODEL)
        assert half.status.value == "PENDING"

        project.register(store, tracked)

        assert len(store.client.search_model_versions(f"name = '{MODEL}'")) == 1


@pytest.mark.parametrize("damage", ["flip", "remove", "add", "manifest"])
def test_a_package_that_changed_is_neither_loaded_nor_reused(project, tmp_path, damage):
    with project.store() as store:
        tracked = project.track(store)
        version = project.register(store, tracked)
        adapters = artifact_folder(store, version) / "artifacts/adapters"
        registry.fetch(store, version, tmp_path / "before")
        weights = adapters / "fold0-seed0/adapter_model.safetensors"
        if damage == "flip":
            weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        elif damage == "remove":
            weights.unlink()
        elif damage == "add":
            (adapters / "fold0-seed0/adapter_model.bin").write_bytes(b"pickle")
        else:
            weights.write_bytes(b"other")
            manifest = adapters / "manifest.json"
            body = json.loads(manifest.read_text())
            body["files"]["fold0-seed0/adapter_model.safetensors"] = sha256_of(weights)
            manifest.write_text(json.dumps(body))

        with pytest.raises(IntegrityError):
            registry.fetch(store, version, tmp_path / "after")
        assert project.register(store, tracked).version == "2"


def test_a_version_of_an_older_form_is_registered_again_with_its_answers(project, monkeypatch):
    with project.store() as store:
        tracked = project.track(store)
        with monkeypatch.context() as old:
            old.setattr(package, "PREDICTIONS", "other-name.jsonl")
            assert project.register(store, tracked).version == "1"

        assert project.register(store, tracked).version == "2"
        assert project.register(store, tracked).version == "2"


def test_a_version_whose_files_are_gone_is_refused(project, tmp_path):
    with project.store() as store:
        version = project.register(store, project.track(store))
        shutil.rmtree(artifact_folder(store, version))

        with pytest.raises(IntegrityError, match="version 1: its adapters cannot be fetched"):
            registry.fetch(store, version, tmp_path / "out")


@pytest.mark.parametrize("claims_to_be_ours", [False, True])
def test_a_foreign_model_with_code_is_never_run(project, tmp_path, claims_to_be_ours):
    marker = tmp_path / "marker"
    foreign = tmp_path / "foreign"
    (foreign / "code").mkdir(parents=True)
    (foreign / "artifacts/adapters").mkdir(parents=True)
    (foreign / "code/evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    flavor = {"loader_module": "evil", "code": "code", "data": "artifacts"}
    (foreign / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
    with project.store() as store:
        run = project.track(store)["none"].run_id
        made = store.client.create_logged_model(store.experiment_id, name=MODEL)
        store.client.log_model_artifacts(made.model_id, str(foreign))
        store.client.finalize_logged_model(made.model_id, "READY")
        store.client.create_registered_model(MODEL)
        tags = {registry.MANIFEST_SHA256: "0" * 64} if claims_to_be_ours else {}
        store.client.create_model_version(
            MODEL, made.artifact_location, run_id=run, tags=tags, model_id=made.model_id
        )

        with pytest.raises(IntegrityError, match=r"it is not loaded|cannot be fetched"):
            registry.fetch(store, registry.version(store, MODEL, "1"), tmp_path / "out")
    assert not marker.exists()


def test_a_model_without_adapters_is_not_registered(project):
    with project.store() as store:
        tracked = project.track(store)
        (project.root / "models/new/fold0-seed0/adapter_model.safetensors").unlink()

        with pytest.raises(DataError, match=r"adapter_model\.safetensors: missing"):
            project.register(store, tracked)
        assert store.client.search_registered_models() == []


def test_a_version_that_is_not_there_is_named(project):
    with project.store() as store, pytest.raises(NotPromotable, match=f"no version 7 of {MODEL}"):
        registry.version(store, MODEL, "7")


def test_a_move_of_aliases_that_was_cut_short_is_finished(project):
    with project.store() as store:
        project.register(store, project.track(store))
        move = json.dumps({"champion": "1", "previous": None, "why": "promote"})
        store.client.set_registered_model_tag(MODEL, "medslm.alias_move", move)

        assert registry.finish_move(store, MODEL) == "promote"
        assert registry.alias(store, MODEL, "champion") == "1"
        assert registry.finish_move(store, MODEL) is None
