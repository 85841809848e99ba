"""validate_mixes: look at every training set with Great Expectations before anything is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.files import writing_folder
from medslm.params import load_all, load_section
from medslm.quality.mix_jobs import mix_jobs
from medslm.quality.reports import told, write_reports
from medslm.quality.settings import MixParams

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--mix", type=click.Path(path_type=Path), required=True, help="Folder of mix.")
@click.option("--split", type=click.Path(path_type=Path), required=True, help="Folder of split.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(params: Path, mix: Path, split: Path, out: Path) -> None:
    """Write a report on the training set of every variant in params.yaml."""
    knobs = load_section(params, "quality.mixes", MixParams)
    variants = load_all(params, "variants", Variants)

    with writing_folder(out) as folder:
        reports = write_reports(
            folder, mix_jobs(mix=mix, split=split, variants=variants, knobs=knobs)
        )
    log.info("%s", told(reports))


if __name__ == "__main__":
    main()
