"""train: tune the student on one variant's mix, one adapter per fold and seed."""

from __future__ import annotations

import logging
import shutil
import sys
from collections import Counter
from pathlib import Path

import click

from medslm.data.records import Example, Question
from medslm.data.split import read_folds
from medslm.errors import DataError, stage, work_dir
from medslm.files import (
    lock,
    read_jsonl,
    sha256_of,
    sha256_of_json,
    write_json,
    write_text,
    writing_folder,
)
from medslm.params import load_all, load_section
from medslm.student.cells import Finished, Inputs, jobs_of
from medslm.student.engines import Base, engine
from medslm.student.feasible import require_trainable, training
from medslm.student.follower import followed
from medslm.student.settings import ComputeParams, StudentParams, TuneParams
from medslm.student.workfolders import code_identity, tell_of_others

log = logging.getLogger(__name__)

# A training that is over before has nothing to be watched; MLflow then costs it not even its import.
LIVE_AFTER_S = 30.0
LIVE_EVERY_S = 10.0

COLUMNS = "fold,seed,epoch,step,train_loss,dev_loss,dev_accuracy,dev_macro_f1,learning_rate"


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--variant", required=True)
@click.option("--mix", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--folds", type=click.Path(path_type=Path), required=True)
@click.option("--features", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--curves", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    variant: str,
    mix: Path,
    dev: Path,
    folds: Path,
    features: Path,
    out: Path,
    curves: Path,
) -> None:
    """Train every cell under a lock, resuming what was begun, then write adapters and curves whole."""
    student = load_section(params, "student", StudentParams)
    tune = load_section(params, "tune", TuneParams)
    compute = load_section(params, "compute", ComputeParams)
    with lock(work_dir() / "train" / f"{variant}.lock", f"training of {variant}"):
        examples = read_jsonl(mix, Example)
        if not examples:
            raise DataError(f"{mix}: the training set is empty: nothing to train on")
        questions, members = read_jsonl(dev, Question), read_folds(folds)
        load = training(
            variant, examples, questions, folds=len(members), student=student, tune=tune
        )
        require_trainable(load, student, tune, compute.max_hours, work_dir())
        with engine(student, tune, compute) as trainer:
            base = trainer.base()
            identity = _identity([mix, dev, folds, features], student, tune, base)
            work = work_dir() / "train" / f"{variant}-{identity[:16]}"
            tell_of_others(work)
            inputs = Inputs(examples, questions, student, tune, work, features)
            with followed(_live(params, variant, work)):
                cells = trainer.train(inputs, jobs_of(members, tune.seeds))
        sources = dict(Counter(e.source for e in examples))
        card = {"base": base.base_id, "base_sha256": base.base_sha256, "dtype": base.dtype}
        # the ledger finds the cells' live runs by their inputs
        how = {"method": tune.method, "quantize": tune.quantize, "inputs": work.name}
        _write(out, curves, cells, {**card, **how, "examples": sources, "variant": variant})
    log.info("%s: %d cell(s) on %d examples", variant, len(cells), len(examples))


def _identity(files: list[Path], student: StudentParams, tune: TuneParams, base: Base) -> str:
    """Return the hash of all that shapes a cell but its seed; where it is trained is no part of it."""
    inputs = {
        "files": [sha256_of(path) for path in files],
        "student": student.model_dump(),
        "tune": tune.model_dump(exclude={"seeds", "checkpoint_every_s"}),
        "base": [base.base_sha256, base.dtype],
        "code": code_identity(),
    }
    return sha256_of_json(inputs)


def _live(params: Path, variant: str, work: Path) -> list[str] | None:
    """Return the command that shows cells in MLflow while they train; None if `track.live` is off.

    A process and no import: nothing of it shapes an adapter, so DVC must not train anew for it.
    """
    if not load_all(params, "track.live", bool):
        return None
    root = work_dir().parent.absolute()
    experiment = load_all(params, "track.experiment", str)
    flags = {"root": root, "experiment": experiment, "variant": variant, "work": work.absolute()}
    flags |= {"after-s": LIVE_AFTER_S, "every-s": LIVE_EVERY_S}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "medslm.tracking.live", *words]


def _write(out: Path, curves: Path, cells: list[Finished], card: dict[str, object]) -> None:
    lines = [COLUMNS]
    with writing_folder(out) as partial:
        for cell in cells:
            target = partial / cell.name
            target.mkdir()
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                shutil.copyfile(cell.folder / file, target / file)
            for row in cell.history:
                values = [row.epoch, row.step, row.train_loss, row.dev_loss, row.dev_accuracy]
                values += [row.dev_macro_f1, row.learning_rate]
                lines.append(",".join(str(v) for v in [cell.fold, cell.seed, *values]))
        best = {cell.name: cell.best_epoch for cell in cells}
        write_json(partial / "card.json", {**card, "best_epoch": best})
    write_text(curves, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
