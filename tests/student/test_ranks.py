"""Two processes that share every batch, for real: gloo on loopback, each its own Python."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from medslm.errors import DataError, LeakageError, ParamsError, WorkerLost
from medslm.models import choose_dtype, load_causal_lm
from medslm.student import ranks
from medslm.student.cells import Job, finished, trained
from medslm.student.engines import Base, OneProcess, trainer
from medslm.student.ranks import ManyProcesses, ranks_of
from medslm.student.sharding import shard
from tests.student.cells_world import LEAKING, close, compute, inputs, jobs, student, tune

# Sums in another order differ in the last bits, and 21 steps of Adam at lr .01 enlarge that; the
# control of test_group.py differs by more than 1e-2.
TOLERANCE = 1e-4
# Batches of three in passes of two and one: the second process has no row in every other pass.
UNEVEN = {"batch_size": 3, "accumulate": 2, "dropout": 0.0}

pytestmark = pytest.mark.slow


def started(tiny_llama, strategy):
    return ManyProcesses(student(tiny_llama), tune(), compute(processes=2, strategy=strategy))


@pytest.fixture(scope="module")
def two(tiny_llama):
    many = started(tiny_llama, "ddp")
    yield many
    many.close()


@pytest.fixture(scope="module")
def spread(tiny_llama):
    many = started(tiny_llama, "fsdp")
    yield many
    many.close()


@pytest.fixture(scope="module")
def one(tiny_llama):
    return OneProcess(student(tiny_llama), tune(), compute())


def train(by, world, job):
    by.train(world, job)
    return trained(world.work, job)


def test_two_processes_train_the_adapter_of_one(one, two, tiny_llama, tmp_path):
    [job, _] = jobs(0)
    alone = train(one, inputs(tiny_llama, tmp_path / "1", **UNEVEN), job)
    shared = train(two, inputs(tiny_llama, tmp_path / "2", **UNEVEN), job)

    assert close(alone, shared, TOLERANCE)
    assert [row.dev_accuracy for row in alone.history] == [r.dev_accuracy for r in shared.history]
    for ours, theirs in zip(alone.history, shared.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-4)
        assert ours.dev_loss == pytest.approx(theirs.dev_loss, abs=1e-4)
    assert two.base == one.base


def test_a_base_spread_over_two_processes_trains_the_adapter_of_one(
    one, spread, tiny_llama, tmp_path
):
    """Twice, so that a sharded base is clean again after its first cell; in layers and in full."""
    for number, layers in enumerate(["top-2", "all"]):
        [job, _] = jobs(number)
        changes = {**UNEVEN, "layers": layers}
        alone = train(one, inputs(tiny_llama, tmp_path / f"1{layers}", **changes), job)
        sharded = train(spread, inputs(tiny_llama, tmp_path / f"2{layers}", **changes), job)

        assert close(alone, sharded, TOLERANCE)


def test_the_dtype_is_chosen_once_for_all_processes(tiny_llama, tmp_path, monkeypatch):
    """To the opposite of what each of them would find here, so that its own choice would show."""
    found = choose_dtype("auto", "cpu")
    opposite = "float32" if found == "bfloat16" else "bfloat16"
    asked = []
    monkeypatch.setattr(ranks, "choose_dtype", lambda *wanted: asked.append(wanted) or opposite)
    auto = student(tiny_llama).model_copy(update={"dtype": "auto"})

    with trainer(auto, tune(), compute(processes=2)) as many:
        assert many.base.dtype == opposite
    assert asked == [("auto", "cpu")]


def test_processes_that_hold_different_bases_are_refused():
    base = Base("tiny", "0" * 64, "float32")

    assert ranks.agreed([base, base]) == base
    with pytest.raises(DataError, match=r"rank 0 has .*'float32'.*, rank 1 has .*'bfloat16'"):
        ranks.agreed([base, base._replace(dtype="bfloat16")])


def test_an_error_of_ours_comes_out_of_the_processes_as_itself(tiny_llama, tmp_path):
    with trainer(student(tiny_llama), tune(), compute(processes=2)) as many:
        with pytest.raises(LeakageError, match="in train and dev of the same fold"):
            many.train(inputs(tiny_llama, tmp_path), Job(0, 0, LEAKING))
        assert not any(alive(pid) for pid in ranks_of(many))


def test_a_killed_process_ends_the_cell_and_its_checkpoint_is_taken_up(
    one, two, tiny_llama, tmp_path
):
    """The last test of ``two``: afterwards it is gone. One process goes on from what two left."""
    [job, _] = jobs(0)
    long = {**UNEVEN, "epochs": 12}
    undisturbed = train(one, inputs(tiny_llama, tmp_path / "1", **long), job)
    world = inputs(tiny_llama, tmp_path / "2", **long)
    checkpoints = world.work / f"{job.name}.checkpoints"
    victim = ranks_of(two)[1]

    def kill_mid_cell():
        until = time.monotonic() + 60
        while not list(checkpoints.glob("step-*")) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill_mid_cell)
    killer.start()
    with pytest.raises(WorkerLost, match="rank 1 of 2 was killed by signal 9"):
        two.train(world, job)
    killer.join()

    assert finished(world.work, job) is None
    assert list(checkpoints.glob("step-*"))
    assert not any(alive(pid) for pid in ranks_of(two))
    assert close(train(one, world, job), undisturbed, 1e-3)


def test_spreading_leaves_no_process_a_whole_block(tiny_llama, tmp_path):
    """In a group of one, whose share is everything: what matters is who manages each weight."""
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor

    loaded = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")
    ids = torch.arange(9)[None]
    before = loaded.model(ids).logits
    dist.init_process_group(
        "gloo", init_method=(tmp_path / "meeting").as_uri(), rank=0, world_size=1
    )
    try:
        shard(loaded, tune())

        weights = dict(loaded.model.base_model.named_parameters())
        assert len(weights) == 38
        assert all(isinstance(weight, DTensor) for weight in weights.values())
        assert not isinstance(loaded.model.get_output_embeddings().weight, DTensor)
        assert torch.allclose(loaded.model(ids).logits, before, atol=1e-5)
    finally:
        dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_train_the_adapter_of_one(tiny_llama, tmp_path, strategy):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    [job, _] = jobs(0)
    here = OneProcess(student(tiny_llama), tune(), compute())
    alone = train(here, inputs(tiny_llama, tmp_path / "1", **UNEVEN), job)
    with trainer(student(tiny_llama), tune(), compute(processes=2, strategy=strategy)) as many:
        shared = train(many, inputs(tiny_llama, tmp_path / "2", **UNEVEN), job)

    assert close(alone, shared, TOLERANCE)


def test_a_model_that_trains_itself_is_not_spread(tiny_llama):
    loaded = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")

    with pytest.raises(ParamsError, match="use ddp"):
        shard(loaded, tune().model_copy(update={"method": "full"}))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
