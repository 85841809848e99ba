"""The MLflow store: where it is, what is in it, and how a record becomes a run exactly once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medslm.errors import MedslmError, TrackingDown
from medslm.tracking.record import Record, split_long, without_credentials

FINGERPRINT = "dvc.fingerprint"
HOST = "medslm.host"
PID = "medslm.pid"

# Set before MLflow is imported, unless the user chose: no telemetry, and an unreachable server is
# an error in seconds, not after the default's four minutes (measured: 247 s).
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
}

# MLflow's own limits per request (mlflow.utils.validation, 3.17).
_PARAMS_PER_BATCH = 100
_ENTITIES_PER_BATCH = 1000


@dataclass(frozen=True)
class Store:
    """An MLflow client with the experiment it works in. ``root`` is the project's root."""

    client: Any
    uri: str
    root: Path
    experiment: str
    experiment_id: str


def own_database(root: Path) -> Path | None:
    """Return the project's own SQLite file, None where MLFLOW_TRACKING_URI names another store."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else root.resolve() / "mlflow.db"


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the project's own SQLite file, always by its absolute path."""
    own = own_database(root)
    return os.environ["MLFLOW_TRACKING_URI"] if own is None else f"sqlite:///{own}"


@contextlib.contextmanager
def opened(root: Path, experiment: str) -> Iterator[Store]:
    """Yield the store of the project at ``root``; every failure of MLflow inside becomes TrackingDown.

    The experiment is made if it is not there, with its artifacts under ``mlruns/`` when the store
    is a local file. Raises TrackingDown as well when the project was moved since, because artifacts
    would go to the old place.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # what goes wrong there is raised too; a traceback beside the one line would only hide it
    for name in ("sqlalchemy", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = tracking_uri(root)
    import requests
    import sqlalchemy.exc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _experiment(client, uri, root.resolve(), experiment)
        yield Store(client, uri, root.resolve(), experiment, experiment_id)
    except MedslmError:
        raise
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError) as exc:
        said = without_credentials(" ".join(str(exc).split()))[:300]
        raise TrackingDown(
            f"MLflow at {without_credentials(uri)} failed: {said}; "
            "local results are kept: start or repair it (or unset MLFLOW_TRACKING_URI) and run again"
        ) from exc


def finished_run(store: Store, fingerprint: str) -> str | None:
    """Return the id of the oldest finished run with this fingerprint, or None."""
    found = store.client.search_runs(
        [store.experiment_id],
        f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return str(found[0].info.run_id) if found else None


def log_run(store: Store, record: Record) -> str:
    """Log a record as a new run and return its id.

    The run is FINISHED only after its last byte, so a killed one is never mistaken for a whole one.
    """
    from mlflow.entities import Metric, Param

    tags = {
        FINGERPRINT: record.fingerprint,
        "medslm.kind": record.kind,
        "medslm.variant": record.name,
        HOST: socket.gethostname(),
        PID: str(os.getpid()),
    }
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.exp_name"] = experiment
    made = store.client.create_run(store.experiment_id, tags=tags, run_name=record.name).info
    run_id, now = str(made.run_id), int(made.start_time)
    short, texts = split_long(record.params)
    metrics = [Metric(key, value, now, 0) for key, value in record.metrics.items()]
    metrics += [Metric(p.key, p.value, now, p.step) for p in record.curve]
    _log_in_batches(store, run_id, metrics, [Param(key, value) for key, value in short.items()])
    store.client.log_inputs(run_id, _datasets(record))
    for name, text in {**record.texts, **texts}.items():
        store.client.log_text(run_id, text, name)
    store.client.set_terminated(run_id, "FINISHED")
    return run_id


def delete_ghosts(store: Store, fingerprint: str, run_id: str) -> int:
    """Delete unfinished twins of a finished run that this host's dead processes or this one made.

    A server whose answer is lost on the way has made the run all the same, and a client that asks
    again makes a second. MLflow keeps deleted runs for `mlflow gc`.
    """
    ghosts = 0
    for run in store.client.search_runs(
        [store.experiment_id],
        f"tags.`{FINGERPRINT}` = '{fingerprint}' and tags.`{HOST}` = '{socket.gethostname()}' "
        "and attributes.status != 'FINISHED'",
    ):
        pid = run.data.tags.get(PID, "")
        ours = pid.isdecimal() and (int(pid) == os.getpid() or not is_alive(int(pid)))
        if ours and run.info.run_id != run_id:
            store.client.delete_run(run.info.run_id)
            ghosts += 1
    return ghosts


def close_stale_runs(store: Store) -> int:
    """Mark as KILLED our runs that a dead process of this host left RUNNING; return how many."""
    closed = 0
    running = store.client.search_runs(
        [store.experiment_id],
        f"tags.`{HOST}` = '{socket.gethostname()}' and attributes.status = 'RUNNING'",
    )
    for run in running:
        pid = run.data.tags.get(PID, "")
        if pid.isdecimal() and not is_alive(int(pid)):
            store.client.set_tag(
                run.info.run_id, "medslm.closed", f"process {pid} died before it was done"
            )
            store.client.set_terminated(run.info.run_id, "KILLED")
            closed += 1
    return closed


def _experiment(client: Any, uri: str, root: Path, name: str) -> str:
    local = (root / "mlruns" / name).as_uri() if uri.startswith("sqlite:") else None
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=local))
    if found.lifecycle_stage == "deleted":
        raise TrackingDown(
            f"MLflow experiment {name!r} is deleted; run "
            f"`mlflow experiments restore -x {found.experiment_id}` or rename track.experiment"
        )
    if "MLFLOW_TRACKING_URI" not in os.environ and found.artifact_location != local:
        raise TrackingDown(
            f"mlflow.db keeps its artifacts in {found.artifact_location}, but the project is now at {root}; "
            "move it back, or delete mlflow.db: `track` rebuilds the runs, then promote the champion again"
        )
    return str(found.experiment_id)


def _log_in_batches(
    store: Store, run_id: str, metrics: Sequence[Any], params: Sequence[Any]
) -> None:
    """Send everything in one request where MLflow's limits allow, in as few as possible otherwise."""
    first = params[:_PARAMS_PER_BATCH]
    room = _ENTITIES_PER_BATCH - len(first)
    store.client.log_batch(run_id, metrics=metrics[:room], params=first)
    for start in range(room, len(metrics), _ENTITIES_PER_BATCH):
        store.client.log_batch(run_id, metrics=metrics[start : start + _ENTITIES_PER_BATCH])
    for start in range(_PARAMS_PER_BATCH, len(params), _PARAMS_PER_BATCH):
        store.client.log_batch(run_id, params=params[start : start + _PARAMS_PER_BATCH])


def _datasets(record: Record) -> list[Any]:
    """Return MLflow's dataset inputs; sources are paths from the project's root, never absolute."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            dataset=Dataset(
                name=item.name,
                digest=item.digest,
                source_type="local",
                source=json.dumps({"uri": item.source}),
            ),
            tags=[InputTag("mlflow.data.context", item.context)],
        )
        for item in record.inputs
    ]


def is_alive(pid: int) -> bool:
    """Return whether a process of this host has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
