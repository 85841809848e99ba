"""Tune one cell: one training set, one fold, one seed; loss at the answer position only."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Answer
from medslm.errors import Diverged, IntegrityError
from medslm.files import sha256_of_json
from medslm.models import Loaded
from medslm.signals import deferred
from medslm.student import snapshot
from medslm.student.batches import micro_batches
from medslm.student.cached import REDO, CachedStates
from medslm.student.checkpoint import State
from medslm.student.curriculum import PLAIN, Course, Practice, schedule, stalled, weights
from medslm.student.feed import Feed
from medslm.student.frozen import frozen_below
from medslm.student.fused import fuse_lora
from medslm.student.group import Alone, Group
from medslm.student.lora import adapter_tensors
from medslm.student.memory import memory_named
from medslm.student.methods import adapted_in
from medslm.student.progress import Progress
from medslm.student.resuming import Keeper
from medslm.student.rows import Labelled, Row, Trained, row_of
from medslm.student.scoring import AnswerHead, best_answer

log = logging.getLogger(__name__)


class Cell:
    """Training of one adapter on ``model`` (a peft model), resumable after any step.

    The order of batches depends on seed and epoch alone, and a checkpoint holds adapter, optimiser
    and random state, so that a resumed run on a CPU gives the same bytes. A step may be cut into
    ``accumulate`` passes and shared by the processes of ``group``: the same gradient up to rounding.
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
        states: CachedStates | None = None,
        accumulate: int = 1,
        group: Group | None = None,
        practice: Practice = PLAIN,
    ) -> None:
        import torch

        self.model = model
        fuse_lora(model)
        whole = practice.objective == "full-vocabulary"
        self.head = AnswerHead(dataclasses.replace(loaded, model=model), whole_vocabulary=whole)
        # answers of several tokens need all layers again, so nothing is kept for them
        reused = reuse_frozen and self.head.one_token
        self.frozen = frozen_below(self.head.body, adapted_in(model)) if reused else None
        self.states = states if reused else None
        if self.states is not None and (
            self.frozen is None or self.frozen.first != self.states.first
        ):
            raise IntegrityError(
                f"{self.states.index}: not of the layers below the adapters; {REDO}"
            )
        self.bf16 = loaded.dtype == "bfloat16"
        self.parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=lr, weight_decay=weight_decay
        )
        self.lr, self.warmup, self.clip = lr, warmup, clip
        self.batch_size, self.epochs, self.seed = batch_size, epochs, seed
        self.group = group or Alone()
        self.accumulate, self.practice = accumulate, practice
        self.step, self.epoch_loss = 0, 0.0
        self.history: list[Row] = []
        self.best: dict[str, Any] = {}
        self.feed: Feed | None = None  # told of every step by whoever wants training to be seen

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

        Raises Diverged if a loss is not finite, CheckpointError if no checkpoint there is whole or
        they are of another run, Interrupted (at the end of a step, with a checkpoint of it) if a signal
        asked to stop, OutOfMemory.
        """
        course = Course(
            [len(e.ids) for e in examples],
            [e.real for e in examples],
            order=self.practice.order,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        with memory_named(lambda: f"training, step {self.step + 1} of {course.total}"):
            prompts, dev_prompts = self._prompts(examples), self._prompts(dev)
            keeper = Keeper(checkpoints, self._run(examples), every_s=every_s, clock=clock)
            self._resume(keeper.load())
            left = course.examples_after(self.step)
            progress = Progress("training", left, "examples", clock=clock)
            with deferred(lambda: None) as stopping:
                while self.step < course.total and not self._stalled(course):
                    epoch = course.epoch_at(self.step)
                    for count in self._epoch(course, epoch, examples, prompts):
                        within = self.step < course.starts[epoch + 1]
                        if (keeper.due() or stopping.signum) and within:
                            self._save(keeper)
                            keeper.leave_if_asked(stopping, self.step)
                        progress.add(count)
                    self._end_epoch(epoch, len(course.rows[epoch]), dev, dev_prompts, course.total)
                    self._save(keeper)
                    keeper.leave_if_asked(stopping, self.step)
        best = min(self.history, key=lambda row: (row.dev_loss, row.epoch))
        return Trained(self.best, best.epoch, self.history)

    def _epoch(
        self, course: Course, epoch: int, examples: Sequence[Labelled], prompts: Sequence[Any]
    ) -> Iterator[int]:
        """Take the steps of an epoch that are still to come, yielding each batch's size after it."""
        counts = weights([e.real for e in examples], self.practice.real_weight)
        for batch in course.batches(epoch)[self.step - course.starts[epoch] :]:
            self._step(
                [prompts[i] for i in batch],
                [examples[i].label for i in batch],
                [counts[i] for i in batch],
                course.total,
            )
            yield len(batch)

    def _prompts(self, examples: Sequence[Labelled]) -> Sequence[Any]:
        """Return each prompt as what a step starts from: token ids, or the frozen layers' output."""
        ids = [e.ids for e in examples]
        if self.frozen is None:
            return ids
        if self.states is not None:
            return self.states.of(ids)
        with self._autocast():
            return self.frozen.hidden(ids, 2 * self.batch_size)

    def _logits(self, prompts: Sequence[Any]) -> Any:
        if self.frozen is None:
            return self.head.logits(prompts)
        return self.head.answer_logits(self.frozen.finish(prompts), [len(p) for p in prompts])

    def _step(
        self, prompts: Sequence[Any], answers: Sequence[int], counts: Sequence[float], total: int
    ) -> None:
        import torch

        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * schedule(self.step, total, self.warmup)
        losses = []
        for rows in micro_batches(range(len(answers)), self.accumulate):
            loss = self._loss(prompts, answers, counts, rows)
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        value = float(self.group.sum(torch.stack(losses).sum()))
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {self.step + 1}: lower tune.lr")
        self.group.sum_gradients(self.parameters.values())
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip))
        if not math.isfinite(norm):
            raise Diverged(f"the gradient is {norm} at step {self.step + 1}: lower tune.lr")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.epoch_loss += value * len(answers)
        if self.feed is not None:
            rate = self.optimizer.param_groups[0]["lr"]
            self.feed.step(self.step, loss=value, learning_rate=rate, examples=len(answers))

    def _loss(
        self,
        prompts: Sequence[Any],
        answers: Sequence[int],
        counts: Sequence[float],
        rows: Sequence[int],
    ) -> Any:
        """Return what this process's part of ``rows`` adds to the weighted mean loss of the whole batch."""
        import torch

        own = self.group.share(rows)
        # layers that are spread over processes need all of them in every pass
        used = own or rows[:1]
        device = self.head.label_index.device
        labels = torch.tensor([answers[i] for i in used], device=device)
        with self._autocast():
            logits = self._logits([prompts[i] for i in used])
        losses = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        loss = (losses * torch.tensor([counts[i] for i in used], device=device)).sum()
        return loss * (1 / len(answers) if own else 0.0)

    def _end_epoch(
        self, epoch: int, n: int, dev: Sequence[Labelled], prompts: Sequence[Any], total: int
    ) -> None:
        dev_loss, given = self._evaluate(dev, prompts)
        row = row_of(
            epoch + 1,
            self.step,
            train_loss=self.epoch_loss / n,
            dev_loss=dev_loss,
            truth=[ANSWERS[e.label] for e in dev],
            given=given,
            learning_rate=self.lr * schedule(self.step - 1, total, self.warmup),
        )
        if all(row.dev_loss < earlier.dev_loss for earlier in self.history):
            self.best = adapter_tensors(self.model)
        self.history.append(row)
        self.epoch_loss = 0.0
        if self.feed is not None:
            self.feed.epoch(self.step, dataclasses.asdict(row))
        log.info("%s (n=%d)", row, len(dev))

    def _evaluate(
        self, dev: Sequence[Labelled], prompts: Sequence[Any]
    ) -> tuple[float, list[Answer]]:
        import torch

        self.model.eval()
        logs = torch.zeros(len(dev), len(ANSWERS))
        order = sorted(range(len(dev)), key=lambda i: -len(dev[i].ids))
        with torch.no_grad(), self._autocast():
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                own = self.group.share(rows)
                logits = self._logits([prompts[i] for i in own or rows[:1]]).float()
                if own:
                    logs[own] = torch.log_softmax(logits[:, :3], -1).cpu()
        found = self.group.sum(logs).tolist()
        total = -sum(found[i][dev[i].label] for i in order)
        if not math.isfinite(total):
            raise Diverged(f"the dev loss is {total} after step {self.step}: lower tune.lr")
        given = [best_answer(dict(zip(ANSWERS, row, strict=True))) for row in found]
        return total / len(dev), given

    def _autocast(self) -> Any:
        """With a bf16 base, run the products of the fp32 adapters in bf16 too."""
        import torch

        device = self.head.label_index.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16)

    def _stalled(self, course: Course) -> bool:
        if not stalled(self.history, self.practice.patience, after=course.warming_up):
            return False
        log.info(
            "no lower dev loss for %d epochs: stopping after epoch %d of %d",
            *(self.practice.patience, self.history[-1].epoch, len(course.rows)),
        )
        return True

    def _save(self, keeper: Keeper) -> None:
        if self.group.rank != 0:
            return  # one process writes
        history = [dataclasses.asdict(row) for row in self.history]
        keeper.save(
            self.step,
            lambda: snapshot.take(self.parameters, self.optimizer, self.best),
            {"epoch_loss": self.epoch_loss, "history": history},
        )

    def _resume(self, state: State | None) -> None:
        import torch

        if state is not None:
            self.step = state.step
            self.epoch_loss = state.plain["epoch_loss"]
            self.history = [Row(**row) for row in state.plain["history"]]
            self.best = snapshot.put_back(state.tensors, self.parameters, self.optimizer)
        if self.feed is not None:
            self.feed.begin(self.step, threads=torch.get_num_threads(), processes=self.group.size)

    def _run(self, examples: Sequence[Labelled]) -> str:
        """Return a hash of what the steps depend on: whoever resumes must have the same."""
        knobs = [self.lr, self.warmup, self.clip, self.batch_size, self.epochs, self.seed]
        seen = [[len(e.ids), e.label, e.real] for e in examples]
        return sha256_of_json([*knobs, *self.practice, sorted(self.parameters), seen])
