"""train: tune the student on one variant's mix, one adapter per fold and seed."""

from __future__ import annotations

import logging
import shutil
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
from medslm.models import load_causal_lm
from medslm.params import load_section
from medslm.student.cells import Finished, code_identity, train_cells
from medslm.student.settings import StudentParams, TuneParams

log = logging.getLogger(__name__)

COLUMNS = "fold,seed,epoch,step,train_loss,dev_loss,dev_accuracy,dev_macro_f1,learning_rate"


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--variant", required=True)
@click.option("--mix", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--folds", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--curves", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path, variant: str, mix: Path, dev: Path, folds: Path, out: Path, curves: Path
) -> None:
    """Train every cell under a lock, resuming what was begun, then write adapters and curves whole."""
    student = load_section(params, "student", StudentParams)
    tune = load_section(params, "tune", TuneParams)
    with lock(work_dir() / "train" / f"{variant}.lock", f"training of {variant}"):
        examples = read_jsonl(mix, Example)
        if not examples:
            raise DataError(f"{mix}: the training set is empty: nothing to train on")
        loaded = load_causal_lm(student.model, revision=student.revision, dtype=student.dtype)
        inputs = {
            "files": [sha256_of(path) for path in (mix, dev, folds)],
            "student": student.model_dump(),
            "tune": tune.model_dump(exclude={"seeds", "checkpoint_every_s"}),
            "base": [loaded.base_sha256, loaded.dtype],
            "code": code_identity(),
        }
        work = work_dir() / "train" / f"{variant}-{sha256_of_json(inputs)[:16]}"
        cells = list(
            train_cells(
                loaded,
                read_folds(folds),
                examples,
                read_jsonl(dev, Question),
                student=student,
                tune=tune,
                work=work,
            )
        )
        sources = dict(Counter(e.source for e in examples))
        card = {"base": loaded.base_id, "base_sha256": loaded.base_sha256, "dtype": loaded.dtype}
        _write(out, curves, cells, {**card, "examples": sources, "variant": variant})
    log.info("%s: %d cell(s) on %d examples", variant, len(cells), len(examples))


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
