"""baselines: what the untuned student, with and without the abstract, and the class shares answer."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import click

from medslm.data.records import Question
from medslm.data.split import read_folds
from medslm.errors import stage
from medslm.files import read_jsonl, write_jsonl
from medslm.models import load_causal_lm
from medslm.params import load_section
from medslm.student.predicting import predict_majority, predict_untuned
from medslm.student.scoring import Scorer
from medslm.student.settings import StudentParams

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--split", "folder", type=click.Path(path_type=Path), required=True)
@click.option("--majority", type=click.Path(path_type=Path), required=True)
@click.option("--zero-shot", type=click.Path(path_type=Path), required=True)
@click.option("--question-only", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, folder: Path, majority: Path, zero_shot: Path, question_only: Path) -> None:
    """Write the baselines' predictions in the form of a variant's."""
    student = load_section(params, "student", StudentParams)
    folds = read_folds(folder / "folds.json")
    parts = {
        name: read_jsonl(folder / f"{name}.jsonl", Question) for name in ("train", "dev", "test")
    }
    loaded = load_causal_lm(student.model, revision=student.revision, dtype=student.dtype)
    scorer = Scorer(loaded, max_tokens=student.max_tokens, batch_size=student.batch_size)

    count = write_jsonl(majority, predict_majority(folds, **parts))
    write_jsonl(zero_shot, predict_untuned(scorer, folds, parts["dev"], parts["test"]))
    dev, test = (_without_abstracts(parts[name]) for name in ("dev", "test"))
    write_jsonl(question_only, predict_untuned(scorer, folds, dev, test))

    log.info("%d predictions each", count)


def _without_abstracts(questions: list[Question]) -> list[Question]:
    """Return the questions alone: what can be answered without reading the study."""
    return [dataclasses.replace(question, sections=()) for question in questions]


if __name__ == "__main__":
    main()
