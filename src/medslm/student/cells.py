"""The cells of a variant: one adapter per fold and seed, trained one after the other, each resumable."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Example, Question
from medslm.data.split import Fold
from medslm.errors import DataError, LeakageError
from medslm.files import read_json, sha256_of, sha256_of_json, write_json, writing_folder
from medslm.models import Loaded
from medslm.student.lora import add_lora, save_adapter
from medslm.student.prompting import encode
from medslm.student.scoring import warn_of_cuts
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.tuning import Cell, Labelled, Row

log = logging.getLogger(__name__)


class CellData(NamedTuple):
    """Tokenised training and dev examples of one fold."""

    train: list[Labelled]
    dev: list[Labelled]


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
    texts = [(e.context, e.question, e.answer) for e in chosen]
    dev_texts = [(q.context, q.question, q.answer) for q in dev_questions if q.answer is not None]
    return CellData(
        _tokenised(loaded, texts, max_tokens), _tokenised(loaded, dev_texts, max_tokens)
    )


def train_cells(
    loaded: Loaded,
    folds: Mapping[str, Fold],
    examples: Sequence[Example],
    dev: Sequence[Question],
    *,
    student: StudentParams,
    tune: TuneParams,
    work: Path,
) -> Iterator[Finished]:
    """Train every fold and seed, yielding each as it ends.

    ``work`` belongs to these inputs: cells finished or begun there in an earlier run are taken up, so
    that a kill at any moment, even before DVC took the outs in, trains nothing twice.
    """
    for fold_name, fold in folds.items():
        data: CellData | None = None
        for seed in tune.seeds:
            name = cell_name(int(fold_name), seed)
            folder = work / name
            if not (folder / "cell.json").exists():
                data = data or cell_data(loaded, fold, examples, dev, student.max_tokens)
                log.info("%s: %d examples, dev %d", name, len(data.train), len(data.dev))
                _train_one(loaded, data, tune, seed, folder, work / f"{name}.checkpoints")
            else:
                log.info("%s: finished in an earlier run, taken from %s", name, folder)
            body = read_json(folder / "cell.json")
            history = [Row(**row) for row in body["history"]]
            yield Finished(name, int(fold_name), seed, folder, body["best_epoch"], history)


def code_identity() -> str:
    """Return a hash of the code and libraries that shape an adapter: other ones start afresh."""
    from importlib.metadata import version

    here = Path(__file__).parent
    files = [here.parent / "models.py", *sorted(here.glob("*.py"))]
    libraries = {name: version(name) for name in ("torch", "transformers", "peft")}
    return sha256_of_json([*(sha256_of(file) for file in files), libraries])


def _train_one(
    loaded: Loaded, data: CellData, tune: TuneParams, seed: int, folder: Path, checkpoints: Path
) -> None:
    import torch

    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(seed)
        model = add_lora(
            loaded,
            r=tune.r,
            alpha=tune.alpha,
            dropout=tune.dropout,
            targets=tune.targets,
            layers=tune.layers,
        )
        try:
            cell = Cell(
                loaded,
                model,
                lr=tune.lr,
                warmup=tune.warmup,
                weight_decay=tune.weight_decay,
                clip=tune.clip,
                batch_size=tune.batch_size,
                epochs=tune.epochs,
                seed=seed,
                reuse_frozen=tune.reuse_frozen,
            )
            result = cell.train(
                data.train, data.dev, checkpoints=checkpoints, every_s=tune.checkpoint_every_s
            )
            with writing_folder(folder) as partial:
                save_adapter(partial, model, result.tensors, loaded.base_id)
                history = [dataclasses.asdict(row) for row in result.history]
                write_json(
                    partial / "cell.json", {"best_epoch": result.best_epoch, "history": history}
                )
        finally:
            model.unload()
    shutil.rmtree(checkpoints, ignore_errors=True)


def _tokenised(
    loaded: Loaded, texts: Sequence[tuple[str, str, Any]], max_tokens: int
) -> list[Labelled]:
    encoded = [encode(loaded.tokenizer, c, q, max_tokens=max_tokens) for c, q, _ in texts]
    warn_of_cuts([e.cut for e in encoded], max_tokens)
    return [
        Labelled(e.ids, ANSWERS.index(answer))
        for e, (_, _, answer) in zip(encoded, texts, strict=True)
    ]
