"""track: bring MLflow into line with dvc.lock and register the chosen model as challenger."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import click

from medslm.errors import stage, work_dir
from medslm.evaluation.compare import Answers, CompareParams, lines_above
from medslm.files import lock, read_json, write_json
from medslm.params import load_all, load_section, load_value
from medslm.student.settings import StudentParams
from medslm.tracking import spool
from medslm.tracking.challenger import candidate_of, version_tags
from medslm.tracking.ledger import Files, TrackParams, records, summary, track
from medslm.tracking.lockfile import read_lock, require_as_locked
from medslm.tracking.record import SECTIONS
from medslm.tracking.registry import register
from medslm.tracking.store import opened, own_database

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option(
    "--lock",
    "lockfile",
    type=click.Path(path_type=Path),
    default=Path("dvc.lock"),
    show_default=True,
)
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--curves", type=click.Path(path_type=Path), required=True)
@click.option("--compare", "verdict", type=click.Path(path_type=Path), required=True)
@click.option("--models", type=click.Path(path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    lockfile: Path,
    scores: Path,
    curves: Path,
    verdict: Path,
    models: Path,
    data: Path,
    out: Path,
) -> None:
    """Read results, log what MLflow lacks, register the chosen variant, write which run is whose."""
    knobs = load_section(params, "track", TrackParams)
    named = load_section(params, "compare", CompareParams).baselines
    baselines = lines_above(named, load_all(params, "answers", Answers))
    compared = read_json(verdict)
    chosen = compared["chosen"]
    files = Files(root=Path(), lock=lockfile, params=params, scores=scores, curves=curves)
    sections = {name: load_value(params, name) for name in SECTIONS}
    found = records(files, sections, baselines)
    in_lock = read_lock(lockfile, sections)
    answered = data / "predictions" / f"{chosen}.jsonl"
    require_as_locked(in_lock, Path(), [p.as_posix() for p in (verdict, models / chosen, answered)])
    [record] = [r for r in found if r.name == chosen]
    settings = load_section(params, "student", StudentParams)
    candidate = candidate_of(settings, models / chosen, answered, record, compared)
    # the main workspace also inside `dvc exp run --temp`, so that all experiments share one store
    home = work_dir().parent

    with (
        lock(home / ".work" / "track.lock", "tracking"),
        spool.kept_if_down(home, knobs.experiment, found),
        opened(home, knobs.experiment) as store,
    ):
        spool.send(home, knobs.experiment, partial(track, store))
        tracked = track(store, found)
        version = register(
            store,
            knobs.registered_model,
            candidate,
            run_id=tracked[chosen].run_id,
            tags=version_tags(in_lock, chosen, tracked[chosen].fingerprint),
        )

    write_json(
        out,
        summary(
            knobs.experiment,
            tracked,
            chosen=chosen,
            version=version,
            own=own_database(home) is not None,
        ),
    )
    reused = sum(run.reused for run in tracked.values())
    log.info(
        "%d runs logged, %d reused; %s is %s version %s",
        *(len(tracked) - reused, reused, chosen, version.name, version.version),
    )


if __name__ == "__main__":
    main()
