"""Whether the runs of the last `track` are still in the project's own database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from medslm.errors import DataError
from medslm.files import read_json


def lost(report: Path, database: Path) -> str | None:
    """Return why `track` has to make the runs in its ``report`` again, None if they are all there.

    ``database`` is the project's own SQLite file; of runs on a server nothing is said. A deleted run
    (MLflow keeps it until `mlflow gc`) is there: who deleted it meant it. Nothing is written, and
    MLflow, whose import alone takes seconds, is not asked.
    """
    try:
        body = read_json(report)
        ids = _run_ids(body, report)
    except DataError as exc:
        return str(exc)  # merge markers, say: track writes it anew
    if body.get("store") != "own":
        return None
    if not database.is_file():
        return f"{database} is not there"
    try:
        held = _held(database, ids)
    except sqlite3.Error as exc:  # track says what to do, and keeps the runs until it can
        return f"{database}: {exc}"
    return None if held == len(ids) else f"{database} holds {held} of {len(ids)} runs"


def _run_ids(body: Any, report: Path) -> set[str]:
    runs = body.get("runs") if isinstance(body, dict) else None
    if not isinstance(runs, dict) or not all(
        isinstance(run, dict) and isinstance(run.get("run_id"), str) for run in runs.values()
    ):
        raise DataError(f"{report}: not a report of the track stage")
    return {run["run_id"] for run in runs.values()}


def _held(database: Path, ids: set[str]) -> int:
    marks = ", ".join("?" * len(ids))
    query = f"SELECT count(*) FROM runs WHERE run_uuid IN ({marks})"
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        return int(db.execute(query, sorted(ids)).fetchone()[0])
