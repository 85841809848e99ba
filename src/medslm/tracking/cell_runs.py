"""The runs of cells: one per cell, found by what shaped the cell, whoever made it and whenever.

Made while a cell trains (live.py) or from its history afterwards (adopt), never both.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medslm.tracking.record import CellRecord
from medslm.tracking.store import HOST, PID, Store

CELL = "medslm.cell"
_PARENT = "mlflow.parentRunId"
_ADOPTED = "medslm.adopted"
# MLflow's limit per request (mlflow.utils.validation, 3.17).
_METRICS_PER_BATCH = 1000


@dataclass(frozen=True)
class Sample:
    """One value of a metric after ``step`` steps, at ``time`` in seconds since 1970."""

    key: str
    value: float
    step: int
    time: float


def ensure_run(store: Store, key: str, variant: str, name: str) -> str:
    """Return the id of the cell's run, made and RUNNING if there is none that is."""
    found = _runs(store, key)
    if found:
        run_id = str(found[0].info.run_id)
        if found[0].info.status != "RUNNING":
            store.client.update_run(run_id, status="RUNNING")
        store.client.set_tag(run_id, PID, str(os.getpid()))
        return run_id
    return _create(store, key, variant, name)


def log_samples(store: Store, run_id: str, samples: Iterable[Sample]) -> None:
    """Send values in as few requests as MLflow's limit allows; equal ones sent twice are kept once."""
    from mlflow.entities import Metric

    metrics = [Metric(s.key, s.value, int(s.time * 1000), s.step) for s in samples]
    for start in range(0, len(metrics), _METRICS_PER_BATCH):
        store.client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])


def adopt(store: Store, parent: str, cells: Iterable[CellRecord]) -> dict[str, str]:
    """Put exactly one finished run of each cell under the run ``parent``; return their ids by cell.

    A run that was made while the cell trained is completed from the history; a second one, left by a
    request that a server answered after its sender had given up, is deleted. Without any, one is made.
    """
    adopted = {}
    for cell in cells:
        found = _runs(store, cell.key)
        for ghost in found[1:]:
            store.client.delete_run(ghost.info.run_id)
        run_id = str(found[0].info.run_id) if found else None
        tags = found[0].data.tags if found else {}
        if run_id is None:
            run_id = _create(store, cell.key, cell.variant, cell.name)
        if tags.get(_PARENT) != parent:
            store.client.set_tag(run_id, _PARENT, parent)
        if _ADOPTED not in tags:
            _complete(store, run_id, cell)
            store.client.set_terminated(run_id, "FINISHED")
            store.client.set_tag(run_id, _ADOPTED, "true")
        elif found[0].info.status != "FINISHED":
            store.client.set_terminated(run_id, "FINISHED")
        adopted[cell.name] = run_id
    return adopted


def _complete(store: Store, run_id: str, cell: CellRecord) -> None:
    """Log those points of the history that the run does not have."""
    now = time.time()
    missing = []
    for key in sorted({point.key for point in cell.points}):
        there = {metric.step for metric in store.client.get_metric_history(run_id, key)}
        missing += [
            Sample(key, point.value, point.step, now)
            for point in cell.points
            if point.key == key and point.step not in there
        ]
    log_samples(store, run_id, missing)


def _runs(store: Store, key: str) -> list[Any]:
    """Return the cell's runs that are not deleted, the one to keep first: finished, then oldest."""
    found = store.client.search_runs(
        [store.experiment_id], f"tags.`{CELL}` = '{key}'", order_by=["attributes.start_time ASC"]
    )
    return sorted(found, key=lambda run: _ADOPTED not in run.data.tags)


def _create(store: Store, key: str, variant: str, name: str) -> str:
    tags = {
        CELL: key,
        "medslm.kind": "cell",
        "medslm.variant": variant,
        HOST: socket.gethostname(),
        PID: str(os.getpid()),
    }
    made = store.client.create_run(store.experiment_id, tags=tags, run_name=f"{variant}/{name}")
    return str(made.info.run_id)
