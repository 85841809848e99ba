"""What is uploaded of a registered version: MLflow's model folder around medslm's own package."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS
from medslm.errors import IntegrityError
from medslm.files import sha256_of
from medslm.tracking import adapters
from medslm.tracking.adapters import PREDICTIONS, Student
from medslm.tracking.card import CARD
from medslm.tracking.record import Record

# What a served student imports. medslm itself is not on any index: it has to be installed where the
# model is served (`mlflow models serve --env-manager local`), and a name nobody owns there must not
# be asked for.
_REQUIRED = ("mlflow", "torch", "transformers", "peft", "safetensors", "gguf", "pandas", "pydantic")


@dataclass(frozen=True)
class Candidate:
    """What is registered: trained adapters, what they need to answer, and what is known of them.

    ``predictions`` are the answers it was scored by; they and a card go into the package.
    """

    model: Path
    predictions: Path
    student: Student
    record: Record
    warnings: Sequence[str]


def save(folder: Path, candidate: Candidate, card: str) -> str:
    """Write the MLflow model to ``folder/model`` and return its manifest's SHA-256."""
    import pandas as pd

    pyfunc = _pyfunc()
    package = folder / "adapters"
    package.mkdir()
    student = candidate.student
    beside = {CARD: card.encode(), PREDICTIONS: candidate.predictions.read_bytes()}
    digest = adapters.pack(candidate.model, package, student, beside)
    text = {"question": "Does the drug shorten the stay?", "context": "It was 4 days, not 6."}
    # names as objects: MLflow compares them in a way pandas deprecates for its string type
    example = pd.DataFrame([text.values()], columns=pd.Index([*text], dtype=object))
    pyfunc.save_model(
        folder / "model",
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"adapters": str(package)},
        model_config={
            "base_model": student.base_model,
            "base_sha256": student.base_sha256,
            "prompt": student.prompt,
            "labels": list(student.labels),
            "max_tokens": student.max_tokens,
            "manifest_sha256": digest,
        },
        signature=_signature(),
        input_example=example,
        pip_requirements=requirements(),
    )
    packed = folder / "model" / "artifacts" / "adapters" / adapters.MANIFEST
    if sha256_of(packed) != digest:
        raise IntegrityError(f"{packed}: changed while it was packed; run again")
    return digest


def requirements() -> list[str]:
    """Return the pinned packages a served student needs, as installed here, without local suffixes."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _REQUIRED]


def _pyfunc() -> Any:
    """Import MLflow's pyfunc, which on import warns about its own type hints."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        import mlflow.pyfunc
    return mlflow.pyfunc


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec("string", "question"), ColSpec("string", "context")]),
        outputs=Schema([*(ColSpec("double", a) for a in ANSWERS), ColSpec("string", "answer")]),
    )
