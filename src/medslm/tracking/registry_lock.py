"""One promotion at a time for all who share a registry, with the one thing MLflow does atomically."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from medslm.errors import NotPromotable
from medslm.files import lock, sha256_of_json
from medslm.tracking.store import HOST, PID, Store, is_alive

_OWNER = "medslm.owner"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(store: Store, model: str) -> Iterator[None]:
    """Hold the lock of a registered model; NotPromotable, naming the holder, if another has it.

    The lock is a registered model without versions: names are unique in every backend, so one
    creator wins. What a dead process of this host left is taken away.
    """
    from mlflow.exceptions import MlflowException

    name, owner = f"{model}.promotion", uuid.uuid4().hex
    # of two that find the same dead holder, the later would take away the earlier one's lock
    with lock(_on_this_host(store, name), "promotion"):
        _clear_dead(store, name)
        _create(store, model, name, owner)
    try:
        yield
    finally:
        try:
            if _tags(store, name).get(_OWNER) == owner:
                store.client.delete_registered_model(name)
        except MlflowException as exc:  # whoever comes next finds that this process is gone
            log.warning("the lock %s is left in the registry: %s", name, exc)


def _on_this_host(store: Store, name: str) -> Path:
    """Return a file for all clones of one user on this host that share a registry."""
    which = sha256_of_json([store.uri, name])[:16]
    return Path(tempfile.gettempdir()) / f"medslm-{os.getuid()}-{which}.lock"


def _create(store: Store, model: str, name: str, owner: str) -> None:
    from mlflow.exceptions import MlflowException

    tags = {_OWNER: owner, HOST: socket.gethostname(), PID: str(os.getpid())}
    try:
        store.client.create_registered_model(name, tags=tags)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # a server may have answered the first try and the answer been lost: then it is ours
        if _tags(store, name).get(_OWNER) != owner:
            raise NotPromotable(_taken(store, model, name)) from None


def _clear_dead(store: Store, name: str) -> None:
    tags = _tags(store, name)
    pid = tags.get(PID, "")
    if tags.get(HOST) == socket.gethostname() and pid.isdecimal() and not is_alive(int(pid)):
        store.client.delete_registered_model(name)


def _taken(store: Store, model: str, name: str) -> str:
    tags = _tags(store, name)
    return (
        f"{model}: process {tags.get(PID, '?')} on {tags.get(HOST, '?')} is promoting or rolling back; "
        f"try again, or delete the registered model {name} if that process is gone"
    )


def _tags(store: Store, name: str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(store.client.get_registered_model(name).tags)
    except MlflowException as exc:
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
