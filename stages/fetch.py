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
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, sample: Path, out: Path) -> None:
    """Copy or download the source named in params.yaml, check its hash and that it is PubMedQA."""
    source = load_all(params, "data", DataParams)

    count = fetch(source, sample=sample, out=out)

    log.info("fetched %d questions (%s)", count, source.source)


if __name__ == "__main__":
    main()
