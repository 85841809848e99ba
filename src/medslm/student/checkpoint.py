"""A checkpoint: everything a training cell needs to go on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from medslm.errors import CheckpointError, DataError
from medslm.files import read_json, sha256_of, write_json, writing_folder

log = logging.getLogger(__name__)

KEPT = 2  # the newest, and one more in case the newest is damaged


@dataclasses.dataclass
class State:
    """Where training stands: after ``step`` optimiser steps, ``done`` batches into ``epoch``.

    ``tensors`` holds the adapter, the optimiser's moments, the best adapter so far and the state of
    torch's random generator; ``plain`` holds numbers and the history.
    """

    step: int
    tensors: dict[str, Any]
    plain: dict[str, Any]


def save(folder: Path, state: State) -> None:
    """Write ``folder``/step-N whole, with the hash of its tensors, and remove all but the newest two."""
    from safetensors.torch import save_file

    with writing_folder(folder / f"step-{state.step:08d}") as partial:
        save_file(state.tensors, str(partial / "tensors.safetensors"))
        body = {**state.plain, "sha256": sha256_of(partial / "tensors.safetensors")}
        write_json(partial / "state.json", body)
    for old in _newest_first(folder)[KEPT:]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def load_newest(folder: Path) -> State | None:
    """Return the newest whole checkpoint, None if there never was one.

    A damaged one is named and passed over; CheckpointError if all are damaged, since starting again
    in silence would hide the loss.
    """
    found = _newest_first(folder)
    for candidate in found:
        state = _load(candidate)
        if state is not None:
            return state
    if found:
        raise CheckpointError(
            f"{folder}: all {len(found)} checkpoints are damaged; delete this folder to train from the start"
        )
    return None


def _load(folder: Path) -> State | None:
    from safetensors.torch import load_file

    tensors = folder / "tensors.safetensors"
    try:
        plain = read_json(folder / "state.json")
        if not tensors.is_file() or sha256_of(tensors) != plain.pop("sha256"):
            raise DataError("tensors do not have the recorded hash")
    except (DataError, KeyError) as exc:
        log.warning("checkpoint %s is damaged (%s): passed over", folder, exc)
        return None
    return State(int(folder.name.removeprefix("step-")), load_file(tensors), plain)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-????????") if p.is_dir()), reverse=True)
