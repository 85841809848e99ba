"""The bytes behind an MD5: in the workspace if they are there, else in DVC's cache; nothing is fetched."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medslm.errors import DataError
from medslm.tracking.lockfile import md5_of


def find(root: Path, path: str, md5: str) -> Path | None:
    """Return a file with this MD5, None if neither the workspace nor the cache has it."""
    here = root / path
    if here.is_file() and md5_of(here) == md5:
        return here
    cached = _cache(root) / "files" / "md5" / md5[:2] / md5[2:]
    return cached if cached.is_file() else None


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file as they are, also those of older forms; none if it is absent."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
            except ValueError as exc:
                raise DataError(f"{path}:{number}: not JSON: {exc}") from None
            if isinstance(row, dict):
                yield row


@functools.cache
def _cache(root: Path) -> Path:
    """Return DVC's cache folder, which a config may have moved."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else root / ".dvc" / "cache"
