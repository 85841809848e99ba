"""A registered student answers like the one that was scored, and only if every byte is right."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from medslm.data.records import ANSWERS
from medslm.errors import DataError, IntegrityError
from medslm.files import write_json
from medslm.models import load_causal_lm
from medslm.student.lora import adapter_tensors, add_lora, save_adapter
from medslm.student.prompting import PROMPT_ID
from medslm.student.scoring import Scorer, with_adapter
from medslm.tracking import adapters
from medslm.tracking.adapters import Student
from medslm.tracking.registry import fetch
from medslm.tracking.serving import Served, answers
from tests.tracking.project import MLFLOW_WARNING, Project, private_environment

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)

ITEMS = [
    ("Stay was 4.1 days with treatment and 6.0 days without.", "Does treatment shorten the stay?"),
    ("Of 120 adults 60 went home.", "Was the answer no?"),
]


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained variant of two cells whose adapters differ, as the train stage leaves it."""
    import torch

    folder = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        loaded = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = add_lora(
                loaded, r=2, alpha=4, dropout=0.0, targets="all-linear", layers="top-2"
            )
            tensors = {k: torch.randn_like(v) * 0.3 for k, v in adapter_tensors(model).items()}
        save_adapter(folder / f"fold0-seed{seed}", model, tensors, loaded.base_id)
    write_json(folder / "card.json", {"base_sha256": loaded.base_sha256})
    return folder


@pytest.fixture
def student(tiny_llama: Path) -> Student:
    base = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")
    return Student(
        base_model=str(tiny_llama),
        base_revision=None,
        base_sha256=base.base_sha256,
        dtype="float32",
        prompt=PROMPT_ID,
        labels=ANSWERS,
        max_tokens=128,
        batch_size=4,
    )


def scored(base: Path, cell: Path) -> list[list[float]]:
    loaded = with_adapter(load_causal_lm(str(base), revision=None, dtype="float32"), cell)
    rows = Scorer(loaded, max_tokens=128, batch_size=4).probabilities(ITEMS)
    return [list(row.values()) for row in rows]


def test_a_served_student_answers_with_the_mean_of_its_cells(
    tiny_llama, trained, student, tmp_path
):
    digest = adapters.pack(trained, tmp_path / "package", student)

    found = Served(tmp_path / "package", digest).probabilities(ITEMS)

    first, second = (scored(tiny_llama, trained / f"fold0-seed{seed}") for seed in (0, 1))
    for row, a, b in zip(found, first, second, strict=True):
        means = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        assert list(row.values()) == pytest.approx(means, abs=2e-6)
    assert first[0] != pytest.approx(second[0], abs=1e-3)  # control: the cells do differ


def test_one_cell_alone_answers_as_it_was_scored(tiny_llama, trained, student, tmp_path):
    shutil.copytree(trained / "fold0-seed1", tmp_path / "model/fold0-seed1")
    digest = adapters.pack(tmp_path / "model", tmp_path / "package", student)

    found = Served(tmp_path / "package", digest).probabilities(ITEMS)

    expected = scored(tiny_llama, trained / "fold0-seed1")
    for row, values in zip(found, expected, strict=True):
        assert list(row.values()) == pytest.approx(values, abs=2e-6)


def test_another_base_than_the_one_trained_on_is_refused(trained, student, tmp_path):
    other = dataclasses.replace(student, base_sha256="0" * 64)
    digest = adapters.pack(trained, tmp_path / "package", other)

    with pytest.raises(IntegrityError, match="the adapters were trained on 0000"):
        Served(tmp_path / "package", digest)


@pytest.mark.parametrize("change", [{"prompt": "older-v0"}, {"labels": ("yes", "no")}])
def test_a_student_trained_with_another_prompt_or_other_labels_is_refused(
    trained, student, tmp_path, change
):
    digest = adapters.pack(trained, tmp_path / "package", dataclasses.replace(student, **change))

    with pytest.raises(IntegrityError, match="this model was trained with"):
        Served(tmp_path / "package", digest)


def test_an_empty_question_is_refused_by_its_row(trained, student, tmp_path):
    digest = adapters.pack(trained, tmp_path / "package", student)
    served = Served(tmp_path / "package", digest)
    rows = [{"question": "Is it?", "context": "It is."}, {"question": " ", "context": "It is."}]

    with pytest.raises(DataError, match="row 1: question is empty"):
        answers(served, rows)


@pytest.mark.slow
def test_mlflow_loads_and_asks_a_registered_student_as_ours_does(tiny_llama, trained, tmp_path):
    import mlflow
    import pandas as pd

    project = Project(tmp_path / "project").fill()
    shutil.rmtree(project.root / "models/new")
    shutil.copytree(trained, project.root / "models/new")
    settings = {**project.params["student"], "model": str(tiny_llama), "max_tokens": 128}
    project.write_params(student=settings)
    project.relock()
    frame = pd.DataFrame([{"question": q, "context": c} for c, q in ITEMS])

    with project.store() as store:
        version = project.register(store, project.track(store))
        ours = answers(
            Served(
                fetch(store, version, tmp_path / "fetched"),
                version.tags["medslm.manifest_sha256"],
            ),
            frame.to_dict("records"),
        )
        source = store.client.get_model_version_download_uri(version.name, version.version)
        theirs = mlflow.pyfunc.load_model(source).predict(frame)
        store.client.set_registered_model_alias(version.name, "champion", version.version)

    assert list(theirs.columns) == ["yes", "no", "maybe", "answer"]
    assert theirs.to_dict("records") == ours
    with served(project, f"models:/{version.name}@champion") as uri:
        over_http, refused = (
            asked(uri, rows) for rows in (frame.to_dict("records"), [{"question": "Is it?"}])
        )
    assert over_http == (200, {"predictions": ours})
    assert refused[0] == 400


@contextlib.contextmanager
def served(project: Project, model: str) -> Iterator[str]:
    """Serve a model as docs/tracking.md says, in a process of its own."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    flags = f"--model-uri {model} --env-manager local --host 127.0.0.1 --port {port}".split()
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db"}
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (project.root / "served.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", *flags],
            cwd=project.root,
            env={**private_environment(project.root), **store, **here},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, project.root / "served.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(uri, timeout=5):
            return
        time.sleep(0.3)
    raise TimeoutError(f"the model is not served: {log.read_text()[-2000:]}")


def asked(uri: str, rows: list[dict[str, str]]) -> tuple[int, object]:
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(uri, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, None


@pytest.mark.slow
def test_mlflow_refuses_to_load_a_registered_student_that_changed(tiny_llama, trained, tmp_path):
    import mlflow

    project = Project(tmp_path / "project").fill()
    shutil.rmtree(project.root / "models/new")
    shutil.copytree(trained, project.root / "models/new")
    project.relock()
    with project.store() as store:
        version = project.register(store, project.track(store))
        source = store.client.get_model_version_download_uri(version.name, version.version)
    weights = next(Path(source.removeprefix("file://")).rglob("adapter_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors: sha256 is"):
        mlflow.pyfunc.load_model(source)
