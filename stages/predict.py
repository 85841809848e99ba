"""predict: let every cell of a variant answer its dev fold and the test questions."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Question
from medslm.data.split import read_folds
from medslm.errors import stage
from medslm.files import read_jsonl, write_jsonl
from medslm.models import Quantize, load_causal_lm
from medslm.params import load_all, load_section
from medslm.student.cached import open_states
from medslm.student.predicting import predict_cells
from medslm.student.settings import StudentParams

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--models", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--folds", type=click.Path(path_type=Path), required=True)
@click.option("--features", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path, models: Path, dev: Path, test: Path, folds: Path, features: Path, out: Path
) -> None:
    """Write one row per question and cell with the probabilities of yes, no and maybe."""
    student = load_section(params, "student", StudentParams)
    quantize = load_all(params, "tune.quantize", Quantize)
    loaded = load_causal_lm(
        student.model, revision=student.revision, dtype=student.dtype, quantize=quantize
    )

    count = write_jsonl(
        out,
        predict_cells(
            loaded,
            models,
            read_folds(folds),
            load_all(params, "tune.seeds", list[int]),
            read_jsonl(dev, Question),
            read_jsonl(test, Question),
            max_tokens=student.max_tokens,
            batch_size=student.batch_size,
            states=open_states(features, loaded),
        ),
    )

    log.info("%d predictions", count)


if __name__ == "__main__":
    main()
