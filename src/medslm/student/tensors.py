"""Tensors in and out as safetensors files, a failing disk as the OSError that it is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from medslm.errors import DataError

_OS_ERROR = re.compile(r"\(os error ([0-9]+)\)")


def write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write named tensors to ``path``, in the order of their names; OSError for a full or failing disk.

    safetensors says every fault of the disk as its own error, which would look like a bug of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(sorted(tensors.items())), str(path))
    except SafetensorError as exc:
        found = _OS_ERROR.search(str(exc))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None


def read_tensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file on the CPU; DataError if it is none. Never unpickles."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(path)
    except SafetensorError as exc:
        raise DataError(f"{path}: not a safetensors file: {exc}") from None
    return found


def first_not_finite(tensors: dict[str, Any]) -> str | None:
    """Return the name of the first tensor that holds a NaN or an infinity, None if there is none."""
    for name, tensor in sorted(tensors.items()):
        if not tensor.isfinite().all():
            return name
    return None
