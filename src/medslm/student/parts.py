"""States of prompts on disk: parts written once, whole, with an index and a hash, and mapped into memory.

A part is raw rows (little-endian, one of ``width`` numbers per token) beside an index. Where a prompt
begins like an earlier one, its index points at the rows of that one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medslm.errors import DataError, IntegrityError
from medslm.files import dump_json, read_json, sha256_of, write_text, writing

log = logging.getLogger(__name__)


class Segment(NamedTuple):
    """Consecutive rows of one part: the part's number, the first row, how many."""

    part: int
    row: int
    rows: int


class Entry(NamedTuple):
    """Where the states of a prompt are, in the order of its tokens, and their hash."""

    segments: list[Segment]
    sha256: str


class Part(NamedTuple):
    """What the index of a part says of it."""

    number: int
    sha256: str
    rows: int
    prompts: dict[str, Entry]


def part_file(folder: Path, number: int) -> Path:
    """Return the file with the rows of a part; its index stands beside it as JSON."""
    return folder / f"part-{number:04d}.bin"


def write_part(
    folder: Path,
    number: int,
    rows: Any,
    prompts: Mapping[str, list[Segment]],
    hashes: Mapping[str, str],
) -> Part:
    """Write rows (a tensor: rows, width), then the index that makes them count."""
    raw = raw_bytes(rows)
    with writing(part_file(folder, number)) as partial:
        partial.write_bytes(raw)
    sha256 = hashlib.sha256(raw).hexdigest()
    entries = {key: Entry(segments, hashes[key]) for key, segments in prompts.items()}
    body = {
        "sha256": sha256,
        "rows": len(rows),
        "prompts": {key: [entry.segments, entry.sha256] for key, entry in entries.items()},
    }
    write_text(part_file(folder, number).with_suffix(".json"), dump_json(body) + "\n")
    return Part(number, sha256, len(rows), entries)


def read_parts(folder: Path) -> dict[int, Part]:
    """Return every part's index by number, in order; DataError if one is no index."""
    found = {}
    for file in sorted(folder.glob("part-*.json")):
        number = int(file.stem.removeprefix("part-"))
        body = read_json(file)
        try:
            prompts = {
                key: Entry([Segment(*segment) for segment in segments], sha256)
                for key, (segments, sha256) in body["prompts"].items()
            }
            found[number] = Part(number, body["sha256"], body["rows"], prompts)
        except (KeyError, TypeError, ValueError) as exc:
            raise DataError(
                f"{file}: not the index of a part ({exc!r}); run `dvc repro features`"
            ) from None
    return found


def map_part(folder: Path, part: Part, width: int, dtype: str) -> Any:
    """Return a part's rows (rows, width), mapped from the file, not read into memory.

    Raises IntegrityError if the file is missing, of another size or of another hash.
    """
    import torch

    file = part_file(folder, part.number)
    kind = getattr(torch, dtype)
    expected = part.rows * width * kind.itemsize
    found = file.stat().st_size if file.is_file() else None
    if found != expected:
        state = "is missing" if found is None else f"has {found} bytes, expected {expected}"
        raise IntegrityError(f"{file}: {state}; run `dvc repro features`")
    if sha256_of(file) != part.sha256:
        raise IntegrityError(f"{file}: does not have the recorded sha256; run `dvc repro features`")
    flat = torch.from_file(str(file), shared=False, size=part.rows * width, dtype=kind)
    return flat.view(part.rows, width)


def raw_bytes(rows: Any) -> bytes:
    """Return the bytes of a tensor on the CPU as they go to disk."""
    import torch

    raw: bytes = rows.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return raw


def first_rows(segments: list[Segment], count: int) -> list[Segment]:
    """Return where the first ``count`` tokens of a prompt are."""
    found = []
    for segment in segments:
        if count > 0:
            found.append(segment._replace(rows=min(count, segment.rows)))
        count -= segment.rows
    return found


def drop_part(folder: Path, number: int) -> None:
    """Remove a part, its index first, so that what is left never claims rows that are gone."""
    part_file(folder, number).with_suffix(".json").unlink(missing_ok=True)
    part_file(folder, number).unlink(missing_ok=True)
