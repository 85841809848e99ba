"""runs: let `track` run again if the runs it made are no longer in the project's database."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import click

from medslm.errors import TrackingDown, stage
from medslm.files import read_json, write_text
from medslm.tracking.lost import lost, run_ids

log = logging.getLogger(__name__)


@click.command()
@click.option("--tracked", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(tracked: Path, out: Path) -> None:
    """Delete the report of `track` if its runs are lost: DVC then sees that `track` has to run.

    DVC cannot see into a database, so it runs this before every `track`. A server named by
    MLFLOW_TRACKING_URI is left alone: it may be down, and nothing else here needs it.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ and tracked.exists():
        database = Path(os.environ.get("DVC_ROOT", ".")) / "mlflow.db"
        try:
            gone = lost(database, run_ids(read_json(tracked), tracked))
        except sqlite3.Error as exc:
            raise TrackingDown(
                f"{database}: {exc}; close what holds it or move it away and run again"
            ) from exc
        if gone:
            tracked.unlink()
            log.warning("the runs in %s are not in %s: track makes them again", tracked, database)
    # the same words every time: only a missing report makes `track` run
    write_text(out, "looked\n")


if __name__ == "__main__":
    main()
