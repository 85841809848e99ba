"""Whether the runs of the last `track` are still in the project's own database."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from medslm.errors import DataError


def run_ids(report: Any, where: Path) -> set[str]:
    """Return the ids of the MLflow runs in a report of the track stage; DataError if it is none."""
    runs = report.get("runs") if isinstance(report, dict) else None
    if not isinstance(runs, dict) or not all(
        isinstance(run, dict) and isinstance(run.get("run_id"), str) for run in runs.values()
    ):
        raise DataError(f"{where}: not a report of the track stage; delete it and run `dvc repro`")
    return {run["run_id"] for run in runs.values()}


def lost(database: Path, ids: set[str]) -> bool:
    """Return whether the SQLite file ``database`` is missing or holds none of these runs.

    Deleted runs (MLflow keeps them until `mlflow gc`) count as held: who deleted them meant it. A
    file that is no MLflow database holds none. Nothing is written, and MLflow, whose import alone
    takes seconds, is not asked.
    """
    if not database.is_file():
        return True
    marks = ", ".join("?" * len(ids))
    query = f"SELECT count(*) FROM runs WHERE run_uuid IN ({marks})"
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    ) as db:
        try:
            [held] = db.execute(query, sorted(ids)).fetchone()
        except sqlite3.OperationalError as exc:
            if "no such table" in str(exc):
                return True  # made by something that logged nothing yet, such as `mlflow ui`
            raise
    return bool(ids) and not held
