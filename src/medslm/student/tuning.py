"""Tune one cell: one training set, one fold, one seed; loss at the answer position only."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.data.scores import accuracy, macro_f1
from medslm.errors import Diverged
from medslm.models import Loaded
from medslm.student import checkpoint
from medslm.student.batches import batches
from medslm.student.frozen import frozen_below
from medslm.student.lora import adapter_tensors
from medslm.student.progress import Progress
from medslm.student.scoring import AnswerHead, best_answer

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """A tokenised prompt and the number of its answer in the order yes, no, maybe."""

    ids: list[int]
    label: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One epoch of a cell: mean training loss, then loss, accuracy and macro-F1 on the dev fold."""

    epoch: int
    step: int
    train_loss: float
    dev_loss: float
    dev_accuracy: float
    dev_macro_f1: float
    learning_rate: float


class Trained(NamedTuple):
    """The adapter of the epoch with the lowest dev loss, that epoch, and every epoch's row."""

    tensors: dict[str, Any]
    best_epoch: int
    history: list[Row]


class Cell:
    """Training of one adapter on ``model`` (a peft model), resumable after any step.

    The order of batches depends on seed and epoch alone, and a checkpoint holds adapter, optimiser
    and random state, so that a resumed run on a CPU gives the same bytes.
    """

    def __init__(
        self,
        loaded: Loaded,
        model: Any,
        *,
        lr: float,
        warmup: float,
        weight_decay: float,
        clip: float,
        batch_size: int,
        epochs: int,
        seed: int,
        reuse_frozen: bool,
    ) -> None:
        import torch

        self.model = model
        adapted = model.peft_config["default"].layers_to_transform
        self.head = AnswerHead(dataclasses.replace(loaded, model=model))
        self.frozen = frozen_below(self.head.body, adapted) if reuse_frozen else None
        self.bf16 = loaded.dtype == "bfloat16"
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=lr, weight_decay=weight_decay
        )
        self.lr, self.warmup, self.clip = lr, warmup, clip
        self.batch_size, self.epochs, self.seed = batch_size, epochs, seed
        self.step = 0
        self.epoch_loss = 0.0
        self.history: list[Row] = []
        self.best: dict[str, Any] = {}

    def train(
        self,
        examples: Sequence[Labelled],
        dev: Sequence[Labelled],
        *,
        checkpoints: Path | None,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Trained:
        """Train all epochs and return the best by dev loss; go on from ``checkpoints`` if it has one.

        Raises Diverged if a loss is not finite, CheckpointError if no checkpoint there is whole.
        """
        lengths = [len(e.ids) for e in examples]
        prompts, dev_prompts = self._prompts(examples), self._prompts(dev)
        per_epoch = math.ceil(len(examples) / self.batch_size)
        total = per_epoch * self.epochs
        if checkpoints is not None:
            self._resume(checkpoints)
        left = len(examples) * self.epochs - self.step * self.batch_size
        progress = Progress("training", left, "examples", clock=clock)
        saved = clock()
        while self.step < total:
            epoch, done = divmod(self.step, per_epoch)
            plan = batches(lengths, batch_size=self.batch_size, seed=self.seed, epoch=epoch)
            for batch in plan[done:]:
                labels = [examples[i].label for i in batch]
                self._step([prompts[i] for i in batch], labels, total)
                if checkpoints is not None and clock() - saved >= every_s and self.step % per_epoch:
                    checkpoint.save(checkpoints, self._state())
                    saved = clock()
                progress.add(len(batch))
            self._end_epoch(epoch, len(examples), dev, dev_prompts, total)
            if checkpoints is not None:
                checkpoint.save(checkpoints, self._state())
                saved = clock()
        best = min(self.history, key=lambda row: (row.dev_loss, row.epoch))
        return Trained(self.best, best.epoch, self.history)

    def _prompts(self, examples: Sequence[Labelled]) -> list[Any]:
        """Return each prompt as what a step starts from: token ids, or the frozen layers' output."""
        ids = [e.ids for e in examples]
        if self.frozen is None:
            return ids
        with self._autocast():
            return self.frozen.hidden(ids, 2 * self.batch_size)

    def _logits(self, prompts: Sequence[Any]) -> Any:
        if self.frozen is None:
            return self.head.logits(prompts)
        return self.head.answer_logits(self.frozen.finish(prompts), [len(p) for p in prompts])

    def _step(self, prompts: Sequence[Any], answers: Sequence[int], total: int) -> None:
        import torch

        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * schedule(self.step, total, self.warmup)
        labels = torch.tensor(answers, device=self.head.label_weight.device)
        with self._autocast():
            logits = self._logits(prompts)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {self.step + 1}: lower tune.lr")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.epoch_loss += value * len(answers)

    def _end_epoch(
        self, epoch: int, n: int, dev: Sequence[Labelled], prompts: Sequence[Any], total: int
    ) -> None:
        dev_loss, given = self._evaluate(dev, prompts)
        truth = [ANSWERS[e.label] for e in dev]
        row = Row(
            epoch=epoch + 1,
            step=self.step,
            train_loss=round(self.epoch_loss / n, 6),
            dev_loss=round(dev_loss, 6),
            dev_accuracy=round(accuracy(truth, given), 6),
            dev_macro_f1=round(macro_f1(truth, given), 6),
            learning_rate=round(self.lr * schedule(self.step - 1, total, self.warmup), 10),
        )
        if all(row.dev_loss < earlier.dev_loss for earlier in self.history):
            self.best = adapter_tensors(self.model)
        self.history.append(row)
        self.epoch_loss = 0.0
        log.info(
            "epoch %d: train loss %.4f, dev loss %.4f, dev accuracy %.3f (n=%d)",
            row.epoch,
            row.train_loss,
            row.dev_loss,
            row.dev_accuracy,
            len(dev),
        )

    def _evaluate(
        self, dev: Sequence[Labelled], prompts: Sequence[Any]
    ) -> tuple[float, list[Answer]]:
        import torch

        self.model.eval()
        total = 0.0
        given: list[Answer] = [ANSWERS[0]] * len(dev)
        order = sorted(range(len(dev)), key=lambda i: -len(dev[i].ids))
        with torch.no_grad(), self._autocast():
            for start in range(0, len(order), self.batch_size):
                chosen = order[start : start + self.batch_size]
                logs = torch.log_softmax(self._logits([prompts[i] for i in chosen]).float(), -1)
                for i, row in zip(chosen, logs.tolist(), strict=True):
                    total -= row[dev[i].label]
                    given[i] = best_answer(dict(zip(ANSWERS, row, strict=True)))
        if not math.isfinite(total):
            raise Diverged(f"the dev loss is {total} after step {self.step}: lower tune.lr")
        return total / len(dev), given

    @contextlib.contextmanager
    def _autocast(self) -> Iterator[None]:
        """With a bf16 base, run the products of the fp32 adapters in bf16 too."""
        import torch

        device = self.head.label_weight.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            yield

    def _state(self) -> checkpoint.State:
        import torch

        tensors = {f"adapter.{n}": p.detach().cpu().clone() for n, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value.detach().cpu().clone()
        tensors |= {f"best.{n}": t for n, t in self.best.items()}
        tensors["rng"] = torch.get_rng_state()
        plain = {
            "epoch_loss": self.epoch_loss,
            "history": [dataclasses.asdict(row) for row in self.history],
        }
        return checkpoint.State(self.step, tensors, plain)

    def _resume(self, folder: Path) -> None:
        import torch

        state = checkpoint.load_newest(folder)
        if state is None:
            return
        self.step = state.step
        self.epoch_loss = state.plain["epoch_loss"]
        self.history = [Row(**row) for row in state.plain["history"]]
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state.tensors[f"adapter.{name}"])
                prefixes = {k: f"optimizer.{k}.{name}" for k in ("step", "exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {
                    key: state.tensors[stored].to("cpu" if key == "step" else parameter.device)
                    for key, stored in prefixes.items()
                }
        self.best = {
            n.removeprefix("best."): t for n, t in state.tensors.items() if n.startswith("best.")
        }
        torch.set_rng_state(state.tensors["rng"])
        log.info("going on from step %d (%s)", self.step, folder)


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the factor on the learning rate: linear up over ``warmup`` of the steps, then linear to 0."""
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)
