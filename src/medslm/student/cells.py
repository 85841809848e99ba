"""The cells of a variant: what one adapter per fold and seed is trained on and how, each resumable."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, REAL, Example, Question
from medslm.data.split import Fold
from medslm.errors import DataError, LeakageError
from medslm.files import lock, read_json, write_json, writing_folder
from medslm.models import Loaded
from medslm.student.cached import CachedStates, open_states
from medslm.student.feed import SUFFIX, Feed
from medslm.student.group import Alone, Group
from medslm.student.lora import save_adapter
from medslm.student.methods import require_room, take_off, tunable
from medslm.student.prompting import encode
from medslm.student.rows import Labelled, Row
from medslm.student.scoring import warn_of_cuts
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.tuning import Cell

log = logging.getLogger(__name__)


class CellData(NamedTuple):
    """Tokenised training and dev examples of one fold."""

    train: list[Labelled]
    dev: list[Labelled]


class Job(NamedTuple):
    """One cell to train: a fold, its members, and a seed."""

    fold: int
    seed: int
    members: Fold

    @property
    def name(self) -> str:
        """Return the cell's folder name."""
        return cell_name(self.fold, self.seed)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What all cells of a variant share.

    ``work`` belongs to these inputs alone: cells finished or begun there in an earlier run are taken
    up, so that a kill at any moment, even before DVC took the outs in, trains nothing twice.
    ``features`` is the index of the states below the adapted layers; None computes them anew.
    """

    examples: Sequence[Example]
    dev: Sequence[Question]
    student: StudentParams
    tune: TuneParams
    work: Path
    features: Path | None = None


class Finished(NamedTuple):
    """A trained cell: the folder of its adapter, the epoch it is from, and every epoch's row."""

    name: str
    fold: int
    seed: int
    folder: Path
    best_epoch: int
    history: list[Row]


def cell_name(fold: int, seed: int) -> str:
    """Return the folder name of a cell."""
    return f"fold{fold}-seed{seed}"


def jobs_of(folds: Mapping[str, Fold], seeds: Sequence[int]) -> list[Job]:
    """Return every cell, the seeds of a fold side by side."""
    return [Job(int(name), seed, fold) for name, fold in folds.items() for seed in seeds]


def finished(work: Path, job: Job) -> Finished | None:
    """Return the cell if it is trained, now or in an earlier run."""
    folder = work / job.name
    if not (folder / "cell.json").exists():
        return None
    body = read_json(folder / "cell.json")
    history = [Row(**row) for row in body["history"]]
    return Finished(job.name, job.fold, job.seed, folder, body["best_epoch"], history)


def cell_data(
    loaded: Loaded,
    fold: Fold,
    examples: Sequence[Example],
    dev: Sequence[Question],
    max_tokens: int,
) -> CellData:
    """Tokenise what a fold trains on and is chosen by.

    Raises DataError if nothing is left to train on or a dev question is missing, LeakageError if a
    dev abstract would be trained on.
    """
    if overlap := sorted(set(fold.train) & set(fold.dev)):
        raise LeakageError(f"PMID {overlap[0]} is in train and dev of the same fold")
    members, held_out = set(fold.train), set(fold.dev)
    # unlabelled questions are in no fold: whatever a fold does not hold out, it trains on
    chosen = [e for e in examples if e.pmid not in held_out]
    if members.isdisjoint(e.pmid for e in chosen):
        raise DataError("the training set of this fold is empty: nothing to train on")
    by_pmid = {q.pmid: q for q in dev}
    if missing := [pmid for pmid in fold.dev if pmid not in by_pmid]:
        raise DataError(
            f"dev PMID {missing[0]} is not among the dev questions; run the split stage"
        )
    dev_questions = [by_pmid[pmid] for pmid in fold.dev]
    texts = [(e.context, e.question, e.answer, e.source == REAL) for e in chosen]
    dev_texts = [
        (q.context, q.question, q.answer, True) for q in dev_questions if q.answer is not None
    ]
    return CellData(
        _tokenised(loaded, texts, max_tokens), _tokenised(loaded, dev_texts, max_tokens)
    )


class CellTrainer:
    """Trains cells on one loaded base, one after the other, as one of the processes of ``group``."""

    def __init__(self, loaded: Loaded, inputs: Inputs, group: Group | None = None) -> None:
        self.loaded, self.inputs = loaded, inputs
        self.group = group or Alone()
        require_room(loaded, inputs.tune, inputs.student.max_tokens)
        self._states: CachedStates | None = None
        if inputs.features is not None and inputs.tune.reuse_frozen:
            self._states = open_states(inputs.features, loaded)
        self._fold: tuple[Fold, CellData] | None = None

    def train(self, job: Job) -> None:
        """Train one cell into its folder; raises LockHeld if another process is at it."""
        work = self.inputs.work
        data = self._data(job.members)
        folder, checkpoints = work / job.name, work / f"{job.name}.checkpoints"
        if self.group.rank != 0:
            self._train_one(data, job.seed, folder, checkpoints)
            return
        log.info("%s: %d examples, dev %d", job.name, len(data.train), len(data.dev))
        # the worker of a killed run may live on for a moment, on another machine longer
        with lock(work / f"{job.name}.lock", f"training of {job.name}"):
            self._train_one(data, job.seed, folder, checkpoints)
            shutil.rmtree(checkpoints, ignore_errors=True)

    def _train_one(self, data: CellData, seed: int, folder: Path, checkpoints: Path) -> None:
        import torch

        loaded, tune = self.loaded, self.inputs.tune
        with torch.random.fork_rng(enabled=True):
            torch.manual_seed(seed)
            model = tunable(loaded, tune)
            try:
                cell = Cell(
                    loaded,
                    model,
                    lr=tune.lr,
                    warmup=tune.warmup,
                    weight_decay=tune.weight_decay,
                    clip=tune.clip,
                    batch_size=tune.batch_size,
                    accumulate=tune.accumulate,
                    epochs=tune.epochs,
                    seed=seed,
                    reuse_frozen=tune.reuse_frozen,
                    states=self._states,
                    group=self.group,
                    practice=tune.practice(),
                )
                # one of several processes speaks for all
                seen = folder.with_name(folder.name + SUFFIX) if self.group.rank == 0 else None
                with Feed(seen or Path(os.devnull)) as cell.feed:
                    result = cell.train(
                        data.train,
                        data.dev,
                        checkpoints=checkpoints,
                        every_s=tune.checkpoint_every_s,
                    )
                    cell.feed.end(cell.step)
                if self.group.rank == 0:
                    with writing_folder(folder) as partial:
                        save_adapter(partial, model, result.tensors, loaded.base_id)
                        history = [dataclasses.asdict(row) for row in result.history]
                        body = {"best_epoch": result.best_epoch, "history": history}
                        body |= {"threads": torch.get_num_threads(), "processes": self.group.size}
                        write_json(partial / "cell.json", body)
            finally:
                take_off(model)

    def _data(self, fold: Fold) -> CellData:
        """Return the fold's tokenised data, kept for its other seeds."""
        if self._fold is None or self._fold[0] != fold:
            inputs = self.inputs
            data = cell_data(
                self.loaded, fold, inputs.examples, inputs.dev, inputs.student.max_tokens
            )
            self._fold = fold, data
        return self._fold[1]


def train_cells(
    loaded: Loaded,
    folds: Mapping[str, Fold],
    examples: Sequence[Example],
    dev: Sequence[Question],
    *,
    student: StudentParams,
    tune: TuneParams,
    work: Path,
    features: Path | None = None,
) -> Iterator[Finished]:
    """Train every fold and seed in this process, yielding each as it ends."""
    trainer = CellTrainer(loaded, Inputs(examples, dev, student, tune, work, features))
    for job in jobs_of(folds, tune.seeds):
        if finished(work, job) is None:
            trainer.train(job)
        yield trained(work, job)


def trained(work: Path, job: Job) -> Finished:
    """Return a cell that a worker says it trained; DataError if its files are not to be seen here."""
    found = finished(work, job)
    if found is None:
        raise DataError(
            f"{work / job.name}: a worker trained this cell, but its files are not here; "
            "all machines must share the project's folder"
        )
    return found


def _tokenised(
    loaded: Loaded, texts: Sequence[tuple[str, str, Any, bool]], max_tokens: int
) -> list[Labelled]:
    encoded = [encode(loaded.tokenizer, c, q, max_tokens=max_tokens) for c, q, _, _ in texts]
    warn_of_cuts([e.cut for e in encoded], max_tokens)
    return [
        Labelled(e.ids, ANSWERS.index(answer), real)
        for e, (_, _, answer, real) in zip(encoded, texts, strict=True)
    ]
