"""read: find a teacher's yes, no or maybe in each of its replies to the held-out questions."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Exchange, Question
from medslm.data.split import read_folds
from medslm.errors import stage
from medslm.evaluation.answers import predictions, unanswered
from medslm.files import read_jsonl, write_jsonl

log = logging.getLogger(__name__)


@click.command()
@click.option("--replies", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--folds", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(replies: Path, dev: Path, test: Path, folds: Path, out: Path) -> None:
    """Write the answers in the form of a student's predictions, without probabilities."""
    exchanges = read_jsonl(replies, Exchange)

    write_jsonl(
        out,
        predictions(
            exchanges, read_folds(folds), read_jsonl(dev, Question), read_jsonl(test, Question)
        ),
    )

    told = ", ".join(f"{reason} {count}" for reason, count in unanswered(exchanges).items())
    log.info("%d replies; unanswered: %s", len(exchanges), told or "none")


if __name__ == "__main__":
    main()
