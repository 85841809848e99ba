"""MLflow's logged models: the files of a student, its scores, and the run they came out of."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from medslm.tracking.record import Record
from medslm.tracking.store import FINGERPRINT, HOST, PID, Store, is_alive

_SPLITS = ("dev", "test")


def upload(store: Store, name: str, folder: Path, record: Record, run_id: str) -> Any:
    """Return the logged model that holds the files in ``folder``; READY only once all is there.

    It is an output of its run, and its scores are linked to it and to the questions they are of.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    tags = {
        FINGERPRINT: record.fingerprint,
        HOST: socket.gethostname(),
        PID: str(os.getpid()),
    }
    made = store.client.create_logged_model(
        store.experiment_id, name=name, source_run_id=run_id, tags=tags
    )
    store.client.log_model_artifacts(made.model_id, str(folder))
    store.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
    digests = {item.name: item.digest for item in record.inputs}
    logged_at = store.client.get_run(run_id).info.start_time
    metrics = [
        Metric(
            key,
            value,
            logged_at,  # as in log_run: the run then has each value once
            0,
            model_id=made.model_id,
            dataset_name=split,
            dataset_digest=digests[split],
            run_id=run_id,
        )
        for key, value in record.metrics.items()
        for split in [key.partition(".")[0]]
        if split in _SPLITS and split in digests
    ]
    store.client.log_batch(run_id, metrics=metrics)
    return store.client.finalize_logged_model(made.model_id, "READY")


def delete_ghosts(store: Store, fingerprint: str) -> int:
    """Delete logged models of a fingerprint that were left without a version by this or a dead process.

    To be called when there is no version of the fingerprint whose package is whole.
    """
    ghosts = 0
    for model in store.client.search_logged_models(
        [store.experiment_id], f"tags.`{FINGERPRINT}` = '{fingerprint}'"
    ):
        pid = model.tags.get(PID, "")
        left = pid.isdecimal() and (int(pid) == os.getpid() or not is_alive(int(pid)))
        if model.tags.get(HOST) == socket.gethostname() and left and not _registered(store, model):
            store.client.delete_logged_model(model.model_id)
            ghosts += 1
    return ghosts


def _registered(store: Store, model: Any) -> bool:
    """Return whether a version is made of this model, damaged or not."""
    source = f"source_path = '{model.artifact_location}'"
    return bool(store.client.search_model_versions(source, max_results=1))
