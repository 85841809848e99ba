"""Order, weights and patience: what they promise, and that the usual values change nothing."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import ParamsError
from medslm.files import write_text
from medslm.models import load_causal_lm
from medslm.params import load_section
from medslm.student.cells import cell_data
from medslm.student.curriculum import PLAIN, Course, stalled, weights
from medslm.student.lora import add_lora
from medslm.student.scoring import AnswerHead
from medslm.student.settings import TuneParams
from medslm.student.tuning import Cell
from tests.student import world

REAL = st.lists(st.booleans(), min_size=1, max_size=60)


def course(real, order="mixed", **changes):
    lengths = [10 + i % 7 for i in range(len(real))]
    return Course(
        lengths, real, **{"order": order, "epochs": 3, "batch_size": 4, "seed": 0, **changes}
    )


def rows(made):
    return [[i for batch in made.batches(epoch) for i in batch] for epoch in range(len(made.rows))]


@given(REAL, st.sampled_from(["mixed", "synthetic-first"]))
def test_every_example_is_seen_once_per_pass_in_either_order(real, order):
    made = course(real, order)

    seen = Counter(i for epoch in rows(made) for i in epoch)

    assert seen == dict.fromkeys(range(len(real)), 3)
    assert made.total == sum(len(made.batches(e)) for e in range(len(made.rows)))


@given(REAL)
def test_synthetic_first_shows_no_real_example_before_the_last_generated_one(real):
    made = course(real, "synthetic-first")

    order = [real[i] for epoch in rows(made) for i in epoch]

    assert order == sorted(order)
    assert made.warming_up == (3 if len(set(real)) == 2 else 0)


def test_mixed_does_mix():
    order = [[True, False][i % 2] for i in rows(course([i % 2 == 0 for i in range(40)]))[0]]

    assert order != sorted(order)


@given(REAL, st.sampled_from(["mixed", "synthetic-first"]), st.integers(0, 500))
def test_what_is_left_to_do_is_counted_to_the_batch(real, order, step):
    made = course(real, order)
    step %= made.total + 1
    left = 0
    if step < made.total:
        epoch = made.epoch_at(step)
        done = made.batches(epoch)[: step - made.starts[epoch]]
        left = sum(len(e) for e in made.rows[epoch:]) - 4 * len(done)

    assert made.starts[-1] == made.total
    assert made.examples_after(step) == left


@given(REAL, st.floats(0.1, 50))
def test_weights_have_mean_one_and_the_ratio_asked_for(real, weight):
    counts = weights(real, weight)

    assert sum(counts) / len(counts) == pytest.approx(1)
    of = {r: {c for r2, c in zip(real, counts, strict=True) if r2 == r} for r in (True, False)}
    assert all(len(values) <= 1 for values in of.values())
    if of[True] and of[False]:
        assert of[True].pop() / of[False].pop() == pytest.approx(weight)


def history(*losses):
    return [SimpleNamespace(epoch=e, dev_loss=loss) for e, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("losses", "patience", "after", "expected"),
    [
        ((), 1, 0, False),
        ((1.0, 2.0, 3.0), None, 0, False),
        ((1.0, 2.0), 1, 0, True),
        ((1.0, 1.0), 1, 0, True),
        ((1.0, 2.0), 2, 0, False),
        ((1.0, 2.0, 2.0), 2, 0, True),
        ((1.0, 2.0, 0.5, 0.6), 2, 0, False),
        ((1.0, 2.0, 3.0), 1, 3, False),  # three epochs on generated examples alone
        ((1.0, 2.0, 3.0, 3.0), 1, 3, True),
    ],
)
def test_training_stops_after_so_many_epochs_without_a_lower_dev_loss(
    losses, patience, after, expected
):
    assert stalled(history(*losses), patience, after=after) is expected


@pytest.fixture
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


@pytest.mark.parametrize(
    "change",
    [{"order": "synthetic-first"}, {"real_weight": 4.0}, {"objective": "full-vocabulary"}],
)
def test_each_knob_changes_the_adapter(loaded, tmp_path, change):
    world.run(loaded, tmp_path / "usual")
    world.run(loaded, tmp_path / "changed", **change)

    assert world.outcome(tmp_path / "changed") != world.outcome(tmp_path / "usual")


def test_with_synthetic_first_each_pass_has_its_dev_loss(loaded, tmp_path):
    [cell] = world.run(loaded, tmp_path, order="synthetic-first", epochs=2)

    # 14 real and 6 generated examples in batches of four
    assert [(row.epoch, row.step) for row in cell.history] == [(1, 2), (2, 4), (3, 8), (4, 12)]


def test_patience_ends_training_early_and_keeps_the_same_adapter(loaded, tmp_path, caplog):
    caplog.set_level("INFO")
    [whole] = world.run(loaded, tmp_path / "whole", lr=0.1, epochs=8)
    assert "stopping" not in caplog.text

    [early] = world.run(loaded, tmp_path / "early", lr=0.1, epochs=8, patience=1)

    assert "no lower dev loss for 1 epochs: stopping after epoch" in caplog.text
    assert early.history == whole.history[: len(early.history)]
    assert len(early.history) == early.best_epoch + 1 < 8 == len(whole.history)


def test_a_training_that_patience_ended_is_not_taken_up_again(loaded, tmp_path):
    def train():
        cell = a_cell(loaded, PLAIN._replace(patience=1), lr=0.1, epochs=8)
        data = cell_data(loaded, world.FOLD, world.examples(), world.dev(), 256)
        try:
            return cell.train(data.train, data.dev, checkpoints=tmp_path, every_s=0)
        finally:
            cell.model.unload()

    first, again = train(), train()

    assert len(first.history) < 8
    assert (again.history, again.best_epoch) == (first.history, first.best_epoch)


def a_cell(loaded, practice, **changes):
    import torch

    torch.manual_seed(0)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="all")
    knobs = {k: world.TUNE[k] for k in ("lr", "warmup", "weight_decay", "clip", "epochs")}
    knobs |= changes
    return Cell(loaded, model, **knobs, batch_size=4, seed=0, reuse_frozen=False, practice=practice)


def stepped(loaded, practice, counts):
    """Return every parameter's gradient direction after one step, as the first moment of AdamW."""
    import torch

    cell = a_cell(loaded, practice)
    data = cell_data(loaded, world.FOLD, world.examples(), world.dev(), 256).train[:4]
    cell.clip = 1e9
    cell._step([e.ids for e in data], [e.label for e in data], counts, 10)
    found = torch.cat(
        [cell.optimizer.state[p]["exp_avg"].flatten() for p in cell.parameters.values()]
    )
    cell.model.unload()
    return found, cell.epoch_loss


def test_a_step_on_weighted_examples_is_the_weighted_sum_of_steps_on_each(loaded):
    import torch

    whole, loss = stepped(loaded, PLAIN, [2.0, 0.5, 1.0, 0.5])
    single = [
        stepped(loaded, PLAIN, [4.0 if i == chosen else 0.0 for i in range(4)])
        for chosen in range(4)
    ]

    parts = [w * g / 4 for w, (g, _) in zip([2.0, 0.5, 1.0, 0.5], single, strict=True)]
    assert torch.allclose(whole, sum(parts), atol=1e-5)
    assert loss == pytest.approx(
        sum(w * s / 4 for w, (_, s) in zip([2, 0.5, 1, 0.5], single, strict=True))
    )
    unweighted, _ = stepped(loaded, PLAIN, [1.0] * 4)
    assert not torch.allclose(whole, unweighted, atol=1e-5)


def test_the_full_vocabulary_loss_is_the_models_own_at_the_answer_position_only(loaded):
    import torch

    from medslm.student.prompting import label_ids

    head = AnswerHead(loaded, whole_vocabulary=True)
    data = cell_data(loaded, world.FOLD, world.examples(), world.dev(), 256).train[:4]
    tokens = list(label_ids(loaded.tokenizer).values())
    with torch.no_grad():
        logits = head.logits([e.ids for e in data])
        ours = torch.nn.functional.cross_entropy(logits, torch.tensor([e.label for e in data]))
        own = [
            -torch.log_softmax(loaded.model(torch.tensor([e.ids])).logits[0, -1], -1)[
                tokens[e.label]
            ]
            for e in data
        ]
        three = AnswerHead(loaded).logits([e.ids for e in data])

    assert float(ours) == pytest.approx(float(torch.stack(own).mean()), abs=1e-4)
    assert torch.allclose(logits[:, :3], three)
    assert logits.shape[1] == loaded.model.config.vocab_size > three.shape[1] == 3


def test_only_the_answer_position_has_a_loss(loaded):
    """The hidden states at every other position get no gradient."""
    import torch

    data = cell_data(loaded, world.FOLD, world.examples(), world.dev(), 256).train[:4]
    head = AnswerHead(loaded)
    lengths = [len(e.ids) for e in data]
    hidden = torch.randn(4, max(lengths) + 3, 32, requires_grad=True)
    labels = torch.tensor([e.label for e in data])
    torch.autograd.backward(
        torch.nn.functional.cross_entropy(head.answer_logits(hidden, lengths), labels)
    )

    assert hidden.grad is not None
    felt = hidden.grad.abs().sum(-1).nonzero().tolist()
    assert felt == [[row, n - 1] for row, n in enumerate(lengths)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"order": "synthetic-first", "real_weight": 2.0},
            "real_weight changes nothing with order",
        ),
        ({"order": "real-first"}, "tune.order"),
        ({"real_weight": 0}, "tune.real_weight"),
        ({"patience": 0}, "tune.patience"),
    ],
)
def test_knobs_that_make_no_sense_are_refused(tmp_path, change, told):
    import yaml

    path = tmp_path / "params.yaml"
    write_text(path, yaml.safe_dump({"tune": {**world.TUNE, **change}}))

    with pytest.raises(ParamsError, match=told):
        load_section(path, "tune", TuneParams)
