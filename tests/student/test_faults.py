"""What can befall a training run, row by row.

D01 to D16 are the table of training faults in the design's notes on reliability (it has no D07);
`test_every_row_has_a_test` holds the list. MEDSLM_TRAIN_KILLS sets another number of kills than thirty.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medslm.data.mix import mix
from medslm.errors import (
    CheckpointError,
    DataError,
    Diverged,
    IntegrityError,
    MedslmError,
    ParamsError,
)
from medslm.files import read_json, write_json
from medslm.models import find, load_causal_lm
from medslm.student import checkpoint
from medslm.student.cells import cell_data, train_cells
from medslm.student.lora import adapter_tensors, add_lora
from medslm.student.scoring import with_adapter
from medslm.student.settings import TuneParams
from medslm.student.tensors import read_tensors, write_tensors
from medslm.student.tuning import Cell
from tests.code_deps import ROOT
from tests.factories import question
from tests.student import world

NUMBERS = [n for n in range(1, 17) if n != 7]
KILLS = int(os.environ.get("MEDSLM_TRAIN_KILLS", "30"))
FILES = ("manifest.json", "state.json", "tensors.safetensors")


def test_every_row_has_a_test():
    names = [
        line
        for line in Path(__file__).read_text(encoding="utf-8").splitlines()
        if line.startswith("def test_")
    ]
    found = set(re.findall(r"(?<=_d)[0-9]{2}(?=_)", "\n".join(names)))

    assert found == {f"{n:02}" for n in NUMBERS}


class Trainer:
    """The process of `killing`, by its orders."""

    def __init__(self, model: Path, root: Path) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.student.killing", str(model), str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            # Freed memory goes back at once, so that a limit on it is felt.
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        )

    def order(self, job: str, **fault: Any) -> int:
        """Train in ``job`` with this fault and return the exit code, negative for a signal."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"job": job, **fault}) + "\n")
        self._process.stdin.flush()
        code: int = json.loads(self._process.stdout.readline())["code"]
        return code

    def said(self, job: str, what: str = "error") -> str:
        return (self.root / job / what).read_text()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def trainer(tiny_llama, tmp_path_factory) -> Iterator[Trainer]:
    running = Trainer(tiny_llama, tmp_path_factory.mktemp("faults"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def undisturbed(trainer) -> list[str]:
    assert trainer.order("undisturbed", kill_at=0) == 0
    return world.outcome(trainer.root / "undisturbed")


@pytest.fixture
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


@pytest.fixture(scope="module")
def begun(trainer, undisturbed) -> str:
    """A job with whole checkpoints of steps 1 and 2, killed when it was about to write the third."""
    calls = json.loads(trainer.said("undisturbed", "calls"))
    assert len(calls) == world.STEPS
    assert trainer.order("begun", kill_at=sum(calls[:2]) + 1) == -signal.SIGKILL
    names = [path.name for path in world.checkpoints(trainer.root / "begun")]
    assert names == ["step-00000002", "step-00000001"]
    return "begun"


@pytest.fixture
def work(trainer, begun, tmp_path) -> Path:
    """A copy of that job's folder, to be damaged in this test."""
    folder = tmp_path / "work"
    shutil.copytree(trainer.root / begun, folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * KILLS)
def test_d01_kills_at_random_moments_change_no_byte_of_the_adapter(trainer, undisturbed):
    generator = random.Random(20261122)
    kills = job = resumed = 0
    while kills < KILLS:
        job += 1
        name, code = f"killed-{job}", -signal.SIGKILL
        while code == -signal.SIGKILL:
            saves = generator.randint(0, 5)
            within = generator.uniform(0, 0.06 if saves else 0.5)
            fault = {"signal": signal.SIGKILL, "saves": saves, "after_s": within}
            code = trainer.order(name, **(fault if kills < KILLS else {}))
            kills += code == -signal.SIGKILL
            resumed += "going on from step" in trainer.said(name, "log")

        assert code == 0
        assert world.outcome(trainer.root / name) == undisturbed
    assert resumed > KILLS / 4


def test_d01_another_seed_would_be_noticed(loaded, tmp_path, undisturbed):
    """The control of the test above; this process trains the same bytes, too."""
    world.run(loaded, tmp_path / "same")
    world.run(loaded, tmp_path / "other", lr=0.011)

    assert world.outcome(tmp_path / "same") == undisturbed
    assert world.outcome(tmp_path / "other") != undisturbed


@pytest.mark.slow
def test_d02_a_kill_at_any_call_while_a_checkpoint_is_written_leaves_a_whole_one(
    trainer, undisturbed, begun
):
    calls = json.loads(trainer.said("undisturbed", "calls"))[2]
    steps = []
    for nth in range(1, calls + 2):
        job = f"cut-{nth}"
        # one call further the next checkpoint has begun
        assert trainer.order(job, **{"from": begun, "kill_at": nth}) == -signal.SIGKILL
        state = checkpoint.load_newest(trainer.root / job / "fold0-seed0.checkpoints")
        assert state is not None
        steps.append(state.step)
    for job in ("cut-1", f"cut-{steps.index(3)}", f"cut-{steps.index(3) + 1}", f"cut-{calls}"):
        assert trainer.order(job) == 0
        assert world.outcome(trainer.root / job) == undisturbed
        assert not list((trainer.root / job).glob("*.checkpoints"))

    assert calls > 20
    assert steps == sorted(steps)
    assert set(steps) == {2, 3}


def assert_passed_over(loaded, work, caplog, undisturbed, told):
    """The newest is named and the one before it used, to the same bytes."""
    caplog.clear()
    caplog.set_level("INFO")
    world.run(loaded, work)
    said = [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()]
    assert len(said) == 1
    assert "step-00000002 is damaged" in said[0]
    assert told in said[0]
    assert "going on from step 1 " in caplog.text
    assert world.outcome(work) == undisturbed


@pytest.mark.parametrize("file", FILES)
def test_d03_a_checkpoint_without_one_of_its_files_is_passed_over(
    loaded, work, caplog, undisturbed, file
):
    (world.checkpoints(work)[0] / file).unlink()

    assert_passed_over(loaded, work, caplog, undisturbed, file)


@pytest.mark.parametrize("kind", ["adapter.", "optimizer.exp_avg.", "optimizer.step.", "rng"])
def test_d03_a_checkpoint_that_never_had_moments_or_random_state_is_refused(loaded, work, kind):
    """Written whole, so by something else than this program: nothing is made up for what it lacks."""
    newest = world.checkpoints(work)[0]
    tensors = read_tensors(newest / "tensors.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(kind)}
    assert len(kept) < len(tensors)
    write_tensors(newest / "tensors.safetensors", kept)
    world.reseal(newest)

    with pytest.raises(CheckpointError, match=f"has no {kind}.*delete its folder"):
        world.run(loaded, work)


def test_d03_a_checkpoint_of_a_training_with_other_knobs_is_refused(loaded, work):
    with pytest.raises(CheckpointError, match="with other knobs or examples; delete this folder"):
        world.run(loaded, work, lr=0.02)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_d04_a_checkpoint_with_a_damaged_file_is_passed_over(
    loaded, work, caplog, undisturbed, file, how
):
    path = world.checkpoints(work)[0] / file
    body = bytearray(path.read_bytes())
    body[len(body) // 3] ^= 4
    path.write_bytes(
        {"cut": bytes(body[: len(body) // 2]), "flipped": bytes(body), "empty": b""}[how]
    )

    assert_passed_over(loaded, work, caplog, undisturbed, "")


def test_d04_a_checkpoint_under_the_name_of_another_step_is_passed_over(
    loaded, work, caplog, undisturbed
):
    newest, older = world.checkpoints(work)
    shutil.rmtree(newest)
    shutil.copytree(older, newest)

    assert_passed_over(loaded, work, caplog, undisturbed, "manifest.json is that of step 1")


def test_d05_if_no_checkpoint_is_whole_nothing_starts_again_in_silence(loaded, work):
    before = {}
    for folder in world.checkpoints(work):
        (folder / "tensors.safetensors").write_bytes(b"")
        before[folder] = sorted(folder.iterdir())

    for _ in range(2):
        with pytest.raises(
            CheckpointError, match="all 2 checkpoints are damaged; delete"
        ) as caught:
            world.run(loaded, work)
        assert caught.value.exit_code == 42

    assert {folder: sorted(folder.iterdir()) for folder in before} == before
    assert not (work / "fold0-seed0").exists()
    shutil.rmtree(work / "fold0-seed0.checkpoints")  # what the message says
    assert len(world.run(loaded, work)) == 1


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pth", "pytorch_model.bin"])
@pytest.mark.parametrize("sealed", [True, False])
def test_d06_pickles_in_a_checkpoint_are_never_read(loaded, work, tmp_path, name, sealed):
    marker = tmp_path / "was here"
    for folder in world.checkpoints(work):
        body = pickle.dumps(Payload(marker))
        (folder / name).write_bytes(body)
        if sealed:
            (folder / "tensors.safetensors").write_bytes(body)
            world.reseal(folder)

    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged"):
        world.run(loaded, work)
    assert not marker.exists()

    pickle.loads(body)  # the control: it would have been
    assert marker.exists()


def test_d08_a_full_disk_leaves_the_checkpoints_before_and_training_goes_on_later(
    trainer, begun, undisturbed
):
    code = trainer.order("full", **{"from": begun, "file_bytes": 20_000})

    assert code == 40
    assert "File too large" in trainer.said("full")
    folder = trainer.root / "full" / "fold0-seed0.checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000001", "step-00000002"]
    state = checkpoint.load_newest(folder)
    assert state is not None
    assert state.step == 2
    assert trainer.order("full") == 0
    assert world.outcome(trainer.root / "full") == undisturbed


def a_cell(loaded, **changes):
    import torch

    torch.manual_seed(0)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="top-2")
    knobs = {k: world.TUNE[k] for k in ("lr", "warmup", "weight_decay", "clip", "epochs")}
    return Cell(loaded, model, **{**knobs, **changes}, batch_size=4, seed=0, reuse_frozen=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_d09_a_loss_that_is_not_finite_stops_at_that_step_and_is_in_no_checkpoint(
    loaded, tmp_path, bad
):
    import torch

    cell = a_cell(loaded)
    data = cell_data(loaded, world.FOLD, world.examples(), world.dev(), 256)
    readings = iter(range(100))

    def clock() -> float:
        if next(readings) == 8:
            with torch.no_grad():
                next(iter(cell.parameters.values())).fill_(bad)
        return time.monotonic()

    with pytest.raises(Diverged, match=r"(loss|gradient|finite).*lower tune\.lr") as caught:
        cell.train(data.train, data.dev, checkpoints=tmp_path, every_s=0, clock=clock)

    assert caught.value.exit_code == 43
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert 1 <= state.step < 8
    assert all(tensor.isfinite().all() for tensor in state.tensors.values())


def test_d10_an_adapter_that_is_not_finite_is_neither_written_nor_read(loaded, tmp_path, work):
    import torch

    [cell] = world.run(loaded, tmp_path)
    with_adapter(loaded, cell.folder).model.unload()  # the control: it can be read
    file = cell.folder / "adapter_model.safetensors"
    tensors = read_tensors(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    write_tensors(file, tensors)
    with pytest.raises(Diverged, match="is not finite"):
        with_adapter(loaded, cell.folder)

    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="top-2")
    adapter_tensors(model)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("inf"))
    with pytest.raises(Diverged, match="is not finite"):
        adapter_tensors(model)
    model.unload()

    newest = world.checkpoints(work)[0]
    stored = read_tensors(newest / "tensors.safetensors")
    next(tensor for name, tensor in stored.items() if name.startswith("adapter."))[0, 0] = float(
        "nan"
    )
    write_tensors(newest / "tensors.safetensors", stored)
    world.reseal(newest)
    with pytest.raises(Diverged, match="delete its folder"):
        world.run(loaded, work)


def test_d11_a_base_model_that_is_not_here_is_said_within_seconds(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 does at the start
    started = time.monotonic()

    with pytest.raises(DataError, match="model nobody/nothing: cannot be loaded"):
        load_causal_lm("nobody/nothing", revision="a" * 40, dtype="float32")
    with pytest.raises(ParamsError, match="needs `revision`"):
        load_causal_lm("nobody/nothing", revision=None, dtype="float32")

    assert time.monotonic() - started < 5


def test_d12_a_base_model_with_other_bytes_is_another_one_and_one_with_code_is_refused(
    tiny_llama, tmp_path
):
    marker = tmp_path / "was here"
    folder = tmp_path / "model"

    def copied() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(tiny_llama, folder))

    same = find(str(copied()), None).base_sha256
    assert same == find(str(tiny_llama), None).base_sha256
    body = bytearray((folder / "model.safetensors").read_bytes())
    body[-1] ^= 1
    (folder / "model.safetensors").write_bytes(body)
    assert find(str(folder), None).base_sha256 != same

    (copied() / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(MedslmError) as only_bin:
        load_causal_lm(str(folder), revision=None, dtype="float32")
    config = read_json(copied() / "config.json")
    (folder / "modeling_x.py").write_text(f"open({str(marker)!r}, 'w')")
    write_json(
        folder / "config.json", {**config, "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}
    )
    with pytest.raises(MedslmError) as with_code:
        load_causal_lm(str(folder), revision=None, dtype="float32")

    assert {only_bin.value.exit_code, with_code.value.exit_code} <= {
        2,
        10,
        IntegrityError.exit_code,
    }
    assert not marker.exists()


def test_d13_nothing_to_train_on_is_refused_and_a_single_row_is_enough(loaded, tmp_path):
    def trained(rows: list[Any]) -> Any:
        return list(
            train_cells(
                loaded,
                {"0": world.FOLD},
                rows,
                world.dev(),
                student=world.STUDENT,
                tune=TuneParams(**world.TUNE),
                work=tmp_path,
            )
        )

    with pytest.raises(DataError, match="nothing to train on") as empty:
        trained([])
    with pytest.raises(DataError, match="a training question without an answer") as unanswered:
        mix([question("1", answer=None)], [], {})
    [cell] = trained(world.examples()[:1])

    assert (empty.value.exit_code, unanswered.value.exit_code) == (10, 10)
    assert [row.step for row in cell.history] == [1, 2, 3]


def test_d14_sigterm_ends_with_a_checkpoint_of_the_step_and_goes_on_exactly(trainer, undisturbed):
    for saves in (1, 2, 3):
        stop = {"signal": signal.SIGTERM, "saves": saves, "after_s": 0}
        assert trainer.order("stopped", **stop) == 143
        told = re.match(r"stopped after step (\d+), a checkpoint", trainer.said("stopped"))
        assert told
        [newest, *_] = world.checkpoints(trainer.root / "stopped")
        assert newest.name == f"step-{int(told[1]):08d}"

    assert trainer.order("stopped") == 0
    assert world.outcome(trainer.root / "stopped") == undisturbed


def test_d15_out_of_memory_is_one_line_and_leaves_the_checkpoints(trainer):
    assert trainer.order("starved", memory_from=4) == 70

    assert re.match(r"training, step \d of 3: out of memory; .* lower", trainer.said("starved"))
    state = checkpoint.load_newest(trainer.root / "starved" / "long")
    assert state is not None
    assert state.step >= 1


def test_d16_another_number_of_threads_is_said_and_the_same_is_not(
    loaded, work, caplog, undisturbed, tmp_path
):
    import torch

    other = Path(shutil.copytree(work, tmp_path / "other"))
    mine = torch.get_num_threads()
    assert read_json(world.checkpoints(work)[0] / "state.json")["threads"] == mine
    try:
        torch.set_num_threads(mine + 1)
        world.run(loaded, other)
    finally:
        torch.set_num_threads(mine)
    warning = f"made with {mine} threads, this process has {mine + 1}"
    assert warning in caplog.text
    caplog.clear()

    world.run(loaded, work)

    assert "threads" not in caplog.text
    assert world.outcome(work) == undisturbed  # promised for the same number only
