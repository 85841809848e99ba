from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from medslm.data.records import ANSWERS
from medslm.data.split import Fold
from medslm.errors import CheckpointError, DataError, Diverged, LeakageError, ParamsError
from medslm.files import sha256_of
from medslm.models import load_causal_lm
from medslm.student.cells import cell_data, train_cells
from medslm.student.frozen import frozen_below
from medslm.student.lora import adapted_layers, adapter_tensors, add_lora
from medslm.student.settings import TuneParams
from medslm.student.tuning import AnswerHead, Cell, schedule
from tests.factories import example, question
from tests.student.world import FOLD, STUDENT, TUNE


def tune(**changes):
    return TuneParams(**{**TUNE, **changes})


def examples():
    rng = random.Random(0)
    return [
        example(str(i), answer=ANSWERS[i % 3], context="Stay was 4 days. " * rng.randint(1, 12))
        for i in range(20)
    ]


def dev():
    return [question(pmid, answer=ANSWERS[i % 3]) for i, pmid in enumerate(FOLD.dev)]


@pytest.fixture
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def run(loaded, work, **changes):
    return list(
        train_cells(
            loaded, {"0": FOLD}, examples(), dev(), student=STUDENT, tune=tune(**changes), work=work
        )
    )


def weights(cell):
    return sha256_of(cell.folder / "adapter_model.safetensors")


def test_training_lowers_the_loss_and_keeps_the_epoch_of_the_lowest_dev_loss(loaded, tmp_path):
    [cell] = run(loaded, tmp_path, epochs=6)

    losses = [row.train_loss for row in cell.history]
    assert losses[-1] < losses[0] - 0.05
    assert cell.best_epoch == min(cell.history, key=lambda row: row.dev_loss).epoch
    assert [row.epoch for row in cell.history] == [1, 2, 3, 4, 5, 6]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(loaded, tmp_path):
    [one] = run(loaded, tmp_path / "1")
    [same] = run(loaded, tmp_path / "2")
    [other] = run(loaded, tmp_path / "3", seeds=[1])

    assert weights(one) == weights(same)
    assert one.history == same.history
    assert weights(one) != weights(other)
    config = (one.folder / "adapter_config.json").read_text()
    assert config == (same.folder / "adapter_config.json").read_text()
    assert str(tmp_path) not in config


def test_training_does_not_touch_the_base_or_the_callers_randomness(loaded, tmp_path):
    import torch

    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    torch.manual_seed(7)
    state = torch.get_rng_state()

    run(loaded, tmp_path)

    assert torch.equal(torch.get_rng_state(), state)
    after = dict(loaded.model.named_parameters())
    assert set(after) == set(before)
    assert all(torch.equal(after[n], p) for n, p in before.items())


def test_every_adapter_weight_moves_and_only_in_the_chosen_layers(loaded):
    import torch

    torch.manual_seed(0)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="top-2")
    before = adapter_tensors(model)
    cell = a_cell(loaded, model, warmup=0, epochs=2)
    data = cell_data(loaded, FOLD, examples(), dev(), 256)
    cell.train(data.train, data.dev, checkpoints=None, every_s=1e9)
    after = adapter_tensors(model)

    assert {name.split(".layers.")[1].split(".")[0] for name in before} == {"2", "3"}
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_loss_and_its_gradient_are_those_of_the_masked_full_vocabulary(loaded):
    """Three-way loss = full-vocabulary loss with every other token masked out, value and gradient."""
    import torch

    torch.manual_seed(0)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="all")
    head = AnswerHead(loaded.__class__(model, loaded.tokenizer, "", "", "float32"))
    data = cell_data(loaded, FOLD, examples(), dev(), 256).train[:4]
    labels = torch.tensor([e.label for e in data])

    def gradient(loss):
        parameter = next(p for n, p in model.named_parameters() if "lora_B" in n)
        return torch.autograd.grad(loss, parameter, retain_graph=True)[0]

    ours = torch.nn.functional.cross_entropy(head.logits([e.ids for e in data]), labels)
    from medslm.student.prompting import label_ids

    tokens = torch.tensor(list(label_ids(loaded.tokenizer).values()))
    rows = []
    for e in data:
        logits = model(input_ids=torch.tensor([e.ids])).logits[0]
        masked = torch.full_like(logits, -torch.inf)
        masked[:, tokens] = logits[:, tokens]
        rows.append(torch.log_softmax(masked[-1], -1)[tokens[e.label]])
    full = -torch.stack(rows).mean()

    assert float(ours.detach()) == pytest.approx(float(full.detach()), abs=1e-5)
    assert torch.allclose(gradient(ours), gradient(full), atol=1e-5)
    wrong = torch.nn.functional.cross_entropy(head.logits([e.ids for e in data]), (labels + 1) % 3)
    assert not torch.allclose(gradient(wrong), gradient(full), atol=1e-5)


def a_cell(loaded, model, **changes):
    usual = {"lr": 0.01, "warmup": 0.1, "weight_decay": 0.0, "clip": 1.0, "batch_size": 4}
    usual |= {"epochs": 3, "seed": 0, "reuse_frozen": True}
    return Cell(loaded, model, **{**usual, **changes})


def trained(loaded, checkpoints, clock=time.monotonic, *, frozen=True):
    """Train the usual cell directly, with a clock that a test can make fail or wait."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = add_lora(loaded, r=4, alpha=8, dropout=0.1, targets="all-linear", layers="top-2")
        try:
            cell = a_cell(loaded, model, reuse_frozen=frozen)
            data = cell_data(loaded, FOLD, examples(), dev(), 256)
            return cell.train(data.train, data.dev, checkpoints=checkpoints, every_s=0, clock=clock)
        finally:
            model.unload()


def same(one, two):
    import torch

    return one.history == two.history and all(
        torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors
    )


def test_reusing_the_frozen_layers_changes_nothing_but_the_time(loaded):
    import torch

    whole, reused = trained(loaded, None, frozen=False), trained(loaded, None, frozen=True)

    for name, tensor in whole.tensors.items():
        assert torch.allclose(tensor, reused.tensors[name], atol=1e-5), name
    fresh = add_lora(loaded, r=4, alpha=8, dropout=0.1, targets="all-linear", layers="top-2")
    moved = [
        not torch.allclose(tensor, adapter_tensors(fresh)[name], atol=1e-3)
        for name, tensor in whole.tensors.items()
    ]
    fresh.unload()
    assert all(moved)


def test_with_adapters_in_all_layers_there_is_nothing_to_reuse(loaded):
    body = loaded.model.base_model

    assert frozen_below(body, None) is None
    assert frozen_below(body, [0, 1, 2, 3]) is None
    assert frozen_below(body, [2, 3]) is not None


class PowerCut(Exception):
    """Raised by the clock."""


@pytest.mark.parametrize("readings", [1, 3, 4, 9, 10, 11, 12, 22, 29])
def test_a_run_cut_anywhere_goes_on_to_the_same_weights(loaded, tmp_path, readings):
    undisturbed = trained(loaded, None)
    left = iter(range(readings))

    def clock():
        if next(left, None) is None:
            raise PowerCut
        return time.monotonic()

    with pytest.raises(PowerCut):
        trained(loaded, tmp_path, clock)
    resumed = trained(loaded, tmp_path)

    assert same(resumed, undisturbed)


def test_resuming_without_the_random_state_would_show(loaded, tmp_path):
    """Control for the test above: dropout is on, so a lost random state changes the weights."""
    import torch

    from medslm.student import checkpoint

    undisturbed = trained(loaded, None)
    left = iter(range(9))

    def clock():
        if next(left, None) is None:
            raise PowerCut
        return time.monotonic()

    with pytest.raises(PowerCut):
        trained(loaded, tmp_path, clock)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    torch.manual_seed(99)
    state.tensors["rng"] = torch.get_rng_state()
    shutil.rmtree(tmp_path)
    checkpoint.save(tmp_path, state)

    assert not same(trained(loaded, tmp_path), undisturbed)


def test_a_finished_cell_is_not_trained_again(loaded, tmp_path, caplog):
    caplog.set_level("INFO")
    [first] = run(loaded, tmp_path)
    assert "epoch 3" in caplog.text
    caplog.clear()

    [again] = run(loaded, tmp_path)

    assert weights(again) == weights(first)
    assert "epoch" not in caplog.text


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(loaded, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "fold0-seed0.checkpoints"
    trained(loaded, folder)
    newest = sorted(folder.iterdir())[-1]
    tensors = newest / "tensors.safetensors"
    body = bytearray(tensors.read_bytes())
    body[-3] ^= 1
    tensors.write_bytes(body)

    [cell] = run(loaded, tmp_path)

    assert f"checkpoint {newest} is damaged" in caplog.text
    assert "going on from step 14" in caplog.text
    assert cell.best_epoch in {1, 2, 3}


def test_if_no_checkpoint_is_whole_training_does_not_start_again_in_silence(loaded, tmp_path):
    folder = tmp_path / "fold0-seed0.checkpoints"
    trained(loaded, folder)
    for checkpoint in folder.iterdir():
        (checkpoint / "tensors.safetensors").unlink()

    with pytest.raises(CheckpointError, match="all 2 checkpoints are damaged"):
        run(loaded, tmp_path)


def test_a_loss_that_explodes_stops_training(loaded):
    import torch

    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="all")
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_A" in n).fill_(float("inf"))
    cell = a_cell(loaded, model, lr=0.1, warmup=0, epochs=1)
    data = cell_data(loaded, FOLD, examples(), dev(), 256)

    with pytest.raises(Diverged, match=r"lower tune\.lr"):
        cell.train(data.train, data.dev, checkpoints=None, every_s=1e9)


def test_a_fold_trains_on_what_no_fold_holds_out_and_never_on_its_own_dev_questions(loaded):
    usual = cell_data(loaded, FOLD, examples(), dev(), 256).train
    unlabelled, held_out = example("70", source="labels"), example("21", source="new")

    with_unlabelled = cell_data(loaded, FOLD, [*examples(), unlabelled], dev(), 256).train
    with_held_out = cell_data(loaded, FOLD, [*examples(), held_out], dev(), 256).train

    assert len(with_unlabelled) == len(usual) + 1
    assert len(with_held_out) == len(usual) == 20


def test_leaks_and_empty_folds_are_refused(loaded):
    with pytest.raises(LeakageError, match="in train and dev"):
        cell_data(loaded, Fold(("1", "2"), ("2",)), examples(), dev(), 256)
    with pytest.raises(DataError, match="nothing to train on"):
        cell_data(loaded, Fold(("99",), ("20",)), examples(), dev(), 256)
    with pytest.raises(DataError, match="dev PMID 77"):
        cell_data(loaded, Fold(("1",), ("77",)), examples(), dev(), 256)


def test_targets_and_layers_that_do_not_exist_are_refused(loaded):
    with pytest.raises(ParamsError, match="c_attn is no linear layer"):
        add_lora(loaded, r=4, alpha=8, dropout=0.0, targets=["c_attn"], layers="all")
    with pytest.raises(ParamsError, match="a model with 4 layers"):
        adapted_layers(4, "top-5")
    assert adapted_layers(4, "all") is None


def test_the_learning_rate_rises_then_falls_to_zero():
    factors = [schedule(step, 20, 0.1) for step in range(20)]

    assert factors[:2] == [0.5, 1.0]
    assert factors[2] == 1.0
    assert all(a > b for a, b in pairwise(factors[2:]))
    assert factors[-1] == pytest.approx(1 / 18)


KILLED = """
import sys, time
from pathlib import Path
from medslm.models import load_causal_lm
from tests.student.test_tuning import trained

def slow_clock(first=[True]):
    if first.pop() if first else False:
        print("ready", flush=True)
    time.sleep(0.03)
    return time.monotonic()

loaded = load_causal_lm(sys.argv[1], revision=None, dtype="float32")
trained(loaded, Path(sys.argv[2]), slow_clock)
"""


@pytest.mark.slow
def test_sigkill_in_training_loses_little_and_changes_nothing(loaded, tmp_path, tiny_llama):
    from medslm.student import checkpoint

    undisturbed = trained(loaded, None)
    rng = random.Random(3)
    root = os.getcwd()  # noqa: PTH109 - the folder pytest was started in
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tiny_llama), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.2, 0.5))
            deadline = time.monotonic() + 60
            while checkpoint.load_newest(tmp_path) is None and time.monotonic() < deadline:
                time.sleep(0.01)  # a slow machine: without a checkpoint the kill would show nothing
            process.send_signal(signal.SIGKILL)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert 0 < state.step < 15

    assert same(trained(loaded, tmp_path), undisturbed)
