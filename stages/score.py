"""score: measure one variant's predictions on dev and test."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Prediction, Question
from medslm.data.split import read_folds
from medslm.errors import stage
from medslm.evaluation.score import gold_answers, score, submission
from medslm.evaluation.sheet import write_record
from medslm.files import read_jsonl, write_json

log = logging.getLogger(__name__)


@click.command()
@click.option("--variant", required=True, help="Name of the variant or baseline.")
@click.option("--predictions", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--folds", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--submission", "to_submit", type=click.Path(path_type=Path), default=None)
@stage
def main(
    variant: str,
    predictions: Path,
    dev: Path,
    test: Path,
    folds: Path,
    out: Path,
    to_submit: Path | None,
) -> None:
    """Read predictions and gold answers, measure, write score sheet and submission."""
    rows = read_jsonl(predictions, Prediction)
    held_out = read_jsonl(test, Question)
    questions = [*read_jsonl(dev, Question), *held_out]

    sheet = score(
        rows,
        variant=variant,
        gold=gold_answers(questions),
        test_pmids=[question.pmid for question in held_out],
        dev_pmids={int(name): fold.dev for name, fold in read_folds(folds).items()},
    )
    answers = submission(rows, variant=variant) if to_submit else None

    write_record(out, sheet)
    if to_submit and answers:
        write_json(to_submit, answers)
    log.info(
        "%s: test accuracy %.3f, macro-F1 %.3f (n = %d); dev macro-F1 %.3f (n = %d); %d cells",
        *(variant, sheet.test.accuracy, sheet.test.macro_f1, sheet.test.n),
        *(sheet.dev.macro_f1, sheet.dev.n, sheet.spread.cells),
    )
    if found := sheet.calibrated:
        log.info(
            "%s, calibrated on %d dev questions: temperature %.2f, tau %.1f; test macro-F1 %.3f, NLL %.3f",
            *(variant, found.fitted_on, found.temperature, found.tau),
            *(found.test.macro_f1, found.test.nll),
        )


if __name__ == "__main__":
    main()
