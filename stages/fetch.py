"""fetch: bring the raw questions into the project."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.fetch import DataParams, fetch
from medslm.errors import stage
from medslm.params import load_all

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--sample", type=click.Path(path_type=Path), required=True)
@click.option("--sample-unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, sample: Path, sample_unlabelled: Path, out: Path) -> None:
    """Copy or download the sources named in params.yaml, check hashes and that they are PubMedQA."""
    source = load_all(params, "data", DataParams)

    fetched = fetch(source, sample=sample, sample_unlabelled=sample_unlabelled, out=out)

    log.info(
        "fetched %d questions (%s) and %d without answers",
        *(fetched.labelled, source.source, fetched.unlabelled),
    )


if __name__ == "__main__":
    main()
