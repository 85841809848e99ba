"""validate_predictions: look at all predictions with Great Expectations before they are compared."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.files import writing_folder
from medslm.params import load_all, load_section
from medslm.quality.prediction_jobs import prediction_jobs
from medslm.quality.reports import told, write_reports
from medslm.quality.settings import PredictionParams
from medslm.quality.verdict import BASELINES

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--predictions", type=click.Path(path_type=Path), required=True)
@click.option("--split", type=click.Path(path_type=Path), required=True, help="Folder of split.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(params: Path, predictions: Path, split: Path, out: Path) -> None:
    """Write a report on the predictions of every variant in params.yaml and of the baselines."""
    knobs = load_section(params, "quality.predictions", PredictionParams)
    names = [*load_all(params, "variants", Variants), *BASELINES]

    with writing_folder(out) as folder:
        reports = write_reports(
            folder, prediction_jobs(folder=predictions, split=split, names=names, knobs=knobs)
        )
    log.info("%s", told(reports))


if __name__ == "__main__":
    main()
