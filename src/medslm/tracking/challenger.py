"""The challenger: what has to be known about a chosen variant before it goes into the registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS
from medslm.errors import DataError
from medslm.files import read_json
from medslm.student.prompting import PROMPT_ID
from medslm.student.settings import StudentParams
from medslm.tracking.adapters import Student
from medslm.tracking.ledger import dev_digest
from medslm.tracking.lockfile import Lock
from medslm.tracking.package import Candidate
from medslm.tracking.record import Record
from medslm.tracking.registry import DEV_DIGEST, VARIANT
from medslm.tracking.store import FINGERPRINT


def student_of(settings: StudentParams, model: Path) -> Student:
    """Return what the adapters in ``model`` need to answer; the base is the one on their card."""
    card = read_json(model / "card.json")
    if not isinstance(card, dict) or not isinstance(card.get("base_sha256"), str):
        raise DataError(f"{model / 'card.json'}: has no base_sha256; run `dvc repro` again")
    return Student(
        base_model=settings.model,
        base_revision=settings.revision,
        base_sha256=card["base_sha256"],
        dtype=settings.dtype,
        prompt=PROMPT_ID,
        labels=ANSWERS,
        max_tokens=settings.max_tokens,
        batch_size=settings.batch_size,
        quantize=card.get("quantize"),
    )


def candidate_of(
    settings: StudentParams,
    model: Path,
    predictions: Path,
    record: Record,
    verdict: Mapping[str, Any],
) -> Candidate:
    """Return what is registered of the variant that ``verdict``, the comparison, chose."""
    warnings = verdict.get("warnings", ())
    return Candidate(model, predictions, student_of(settings, model), record, tuple(warnings))


def version_tags(lock: Lock, variant: str, fingerprint: str) -> dict[str, str]:
    """Return the tags by which a registered version is found again and compared."""
    return {FINGERPRINT: fingerprint, VARIANT: variant, DEV_DIGEST: dev_digest(lock)}
