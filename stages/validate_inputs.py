"""validate_inputs: look at raw questions, parts and replies with Great Expectations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.errors import stage
from medslm.files import writing_folder
from medslm.params import load_all, load_section
from medslm.quality.input_jobs import input_jobs
from medslm.quality.reports import told, write_reports
from medslm.quality.settings import InputParams

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--raw", type=click.Path(path_type=Path), required=True, help="Folder of fetch.")
@click.option("--split", type=click.Path(path_type=Path), required=True, help="Folder of split.")
@click.option("--replies", type=click.Path(path_type=Path), required=True, help="Folder of ask.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(params: Path, raw: Path, split: Path, replies: Path, out: Path) -> None:
    """Write a report on the raw questions, on the parts and on the replies of every ask."""
    knobs = load_section(params, "quality.inputs", InputParams)
    asks = load_all(params, "asks", dict[str, dict[str, Any]])
    strategies = {ask: str(entry["strategy"]) for ask, entry in asks.items()}

    jobs = input_jobs(
        raw_folder=raw, split=split, replies_folder=replies, asks=strategies, knobs=knobs
    )
    with writing_folder(out) as folder:
        reports = write_reports(folder, jobs)
    log.info("%s", told(reports))


if __name__ == "__main__":
    main()
