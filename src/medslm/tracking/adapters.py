"""The package of a student: its adapters, what they belong to, and a hash of every byte."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from medslm.data.records import ANSWERS
from medslm.errors import DataError, IntegrityError
from medslm.files import read_json, require_sha256, sha256_of, write_json

MANIFEST = "manifest.json"
_FORMAT = 1
# All that is ever loaded of an adapter: weights without pickle, and their description.
_CELL_FILES = ("adapter_config.json", "adapter_model.safetensors")
_CARD = "card.json"
# The answers that the student was scored by: what it still has to answer, and what it is compared by.
PREDICTIONS = "predictions.jsonl"


@dataclass(frozen=True)
class Student:
    """What a student's adapters need to answer: the base model, its prompt, its labels."""

    base_model: str
    base_revision: str | None
    base_sha256: str
    dtype: Literal["auto", "float32", "bfloat16"]
    prompt: str
    labels: tuple[str, ...]
    max_tokens: int
    batch_size: int
    quantize: Literal["nf4"] | None = (
        None  # of the base; packages from before QLoRA have no such key
    )


def pack(
    model: Path, out: Path, student: Student, beside: Mapping[str, bytes] | None = None
) -> str:
    """Copy the adapters of a trained variant to ``out`` with a manifest; return the manifest's SHA-256.

    One adapter per cell (fold and seed); the base model's weights are not copied. ``beside`` are
    more files by name, hashed like the others. Raises DataError if a cell is not whole or there is none.
    """
    cells = sorted(p for p in model.glob("fold*-seed*") if p.is_dir())
    if not cells:
        raise DataError(f"{model}: holds no trained adapter; run `dvc checkout` or `dvc repro`")
    wanted = [cell / name for cell in cells for name in _CELL_FILES]
    wanted += [model / _CARD] if (model / _CARD).exists() else []
    hashes = {}
    for file in wanted:
        if not file.is_file():
            raise DataError(f"{file}: missing; run `dvc checkout` or `dvc repro`")
        relative = file.relative_to(model)
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / relative)
        hashes[relative.as_posix()] = sha256_of(out / relative)
    for name, content in (beside or {}).items():
        (out / name).write_bytes(content)
        hashes[name] = sha256_of(out / name)
    write_json(
        out / MANIFEST, {"format": _FORMAT, "student": dataclasses.asdict(student), "files": hashes}
    )
    return sha256_of(out / MANIFEST)


def verify(folder: Path, manifest_sha256: str) -> Student:
    """Return what a package says of itself, after checking every byte of it.

    Raises IntegrityError if the manifest is not the one with this hash, a file is missing, changed
    or not named there, or the package was made for another prompt or other labels.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise IntegrityError(f"{folder}: no {MANIFEST}: not a model of medslm; it is not loaded")
    require_sha256(manifest, manifest_sha256)
    body: dict[str, Any] = read_json(manifest)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()} - {
        MANIFEST
    }
    if found != set(body["files"]):
        odd = ", ".join(sorted(found ^ set(body["files"]))[:5])
        raise IntegrityError(f"{folder}: files and manifest differ ({odd}); it is not loaded")
    for name, expected in body["files"].items():
        require_sha256(folder / name, expected)
    return TypeAdapter(Student).validate_python(body["student"])


def require_spoken(student: Student, prompt: str) -> None:
    """Raise IntegrityError unless this version of medslm asks the way the student was trained."""
    for what, made_for, ours in (
        ("prompt", student.prompt, prompt),
        ("labels", student.labels, ANSWERS),
    ):
        if made_for != ours:
            raise IntegrityError(
                f"this model was trained with {what} {made_for!r} and this medslm has {ours!r}; "
                "check out the commit in its tag git.commit"
            )


def cells(folder: Path) -> Sequence[Path]:
    """Return the folders of a package's adapters, in a fixed order."""
    return sorted(p for p in folder.glob("fold*-seed*") if p.is_dir())
