"""A checkpoint: everything a training cell needs to go on as if it had never stopped.

One folder per checkpoint, ``step-N``, with the tensors, the plain values and a manifest: the SHA-256
of every other file, written last. The folder takes its name by one rename when all of it is on the
disk, so that a kill leaves the checkpoints before it and at most an unnamed leftover.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

from medslm.errors import CheckpointError, DataError
from medslm.files import read_json, sha256_of, write_json, writing_folder
from medslm.student.tensors import read_tensors, write_tensors

log = logging.getLogger(__name__)

KEPT = 2  # the newest, and one more in case the newest is damaged
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
PLAIN = "state.json"


@dataclasses.dataclass
class State:
    """Where training stands after ``step`` optimiser steps.

    ``tensors`` holds the adapter, the optimiser's moments, the best adapter so far and the state of
    torch's random generator; ``plain`` holds numbers and the history.
    """

    step: int
    tensors: dict[str, Any]
    plain: dict[str, Any]


def save(folder: Path, state: State) -> None:
    """Write ``folder``/step-N whole with its manifest, and remove all but the newest two.

    OSError if the disk is full or fails: the checkpoints before are then as they were.
    """
    target = folder / f"step-{state.step:08d}"
    with writing_folder(target) as partial:
        write_tensors(partial / TENSORS, state.tensors)
        write_json(partial / PLAIN, state.plain)
        files = {file.name: sha256_of(file) for file in sorted(partial.iterdir())}
        write_json(partial / MANIFEST, {"step": state.step, "files": files})
    _clear(folder, target)


def load_newest(folder: Path) -> State | None:
    """Return the newest whole checkpoint, None if there never was one.

    A damaged one is named and passed over; CheckpointError if all are damaged, since starting again
    in silence would hide the loss. Nothing in ``folder`` is changed.
    """
    found = _newest_first(folder)
    for candidate in found:
        try:
            return _load(candidate)
        except DataError as exc:
            log.warning("checkpoint %s is damaged (%s): passed over", candidate, exc)
    if found:
        raise CheckpointError(
            f"{folder}: all {len(found)} checkpoints are damaged; delete this folder to train from the start"
        )
    return None


def _load(folder: Path) -> State:
    manifest = read_json(folder / MANIFEST)
    try:
        step, files = int(manifest["step"]), dict(manifest["files"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{MANIFEST} has no step and files") from None
    if folder.name != f"step-{step:08d}":
        raise DataError(f"{MANIFEST} is that of step {step}")
    present = {file.name for file in folder.iterdir()} - {MANIFEST}
    if more := sorted(present - files.keys()):
        raise DataError(f"{more[0]} is not in {MANIFEST}")
    for name in (TENSORS, PLAIN, *files):
        if name not in files or name not in present:
            raise DataError(f"{name} is missing")
        if sha256_of(folder / name) != files[name]:
            raise DataError(f"{name} does not have the recorded hash")
    return State(step, read_tensors(folder / TENSORS), read_json(folder / PLAIN))


def _clear(folder: Path, newest: Path) -> None:
    """Remove what is older than the newest two, what killed writers left, and what was passed over."""
    for leftover in folder.glob("step-*.partial.*"):
        shutil.rmtree(leftover)
    found = _newest_first(folder)
    for damaged in (path for path in found if path.name > newest.name):
        # Beyond the step just written, so training had to go on from one before it.
        shutil.rmtree(damaged)
    for old in [path for path in found if path.name <= newest.name][KEPT:]:
        shutil.rmtree(old)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-????????") if p.is_dir()), reverse=True)
