"""runs: say what `track` has to keep, and let it run again if that is no longer in the project's database."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.errors import stage, work_dir
from medslm.evaluation.compare import CompareParams, lines_above
from medslm.files import write_json
from medslm.params import load_section, load_value
from medslm.tracking.lockfile import (
    baseline_fingerprint,
    entries_of,
    read_lock,
    variant_fingerprint,
)
from medslm.tracking.lost import lost
from medslm.tracking.store import own_database

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option("--lock", "lockfile", type=click.Path(path_type=Path), required=True)
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--tracked", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, lockfile: Path, scores: Path, tracked: Path, out: Path) -> None:
    """Write every result's fingerprint; delete the report of `track` if its runs are lost.

    Either way DVC sees that `track` has to run: it cannot see into a database, and results of other code
    with the same bytes change no file that `track` reads. Runs on a server are left alone: it may be down,
    and nothing else here needs it.
    """
    entries = entries_of(params)
    named = load_section(params, "compare", CompareParams).baselines
    lock = read_lock(lockfile, entries)
    found: dict[str, Any] = {
        v: variant_fingerprint(lock, v) for v in load_value(params, "variants")
    }
    for name in lines_above(named, entries["answers"]):
        found[name] = baseline_fingerprint(lock, name, (scores / f"{name}.json").as_posix())
    database = own_database(work_dir().parent)
    if database and tracked.exists() and (why := lost(tracked, database)):
        tracked.unlink()
        log.warning("%s: track makes the runs of %s again", why, tracked)
    write_json(out, found)


if __name__ == "__main__":
    main()
