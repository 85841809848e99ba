"""The model card of a registered version: Markdown made from what its run holds, so no two can disagree."""

from __future__ import annotations

import html
from collections.abc import Sequence

from medslm.tracking.adapters import Student
from medslm.tracking.record import Record

CARD = "README.md"
# MLflow's column for descriptions; PostgreSQL refuses what is longer, SQLite does not.
MAX_DESCRIPTION = 5000

_LIMITS = (
    "It answers from the abstract it is given, with yes, no or maybe, and never says that it does not know.",
    "PubMed abstracts are in the pretraining data of most models: no score here is one on unseen studies.",
    "Nothing it says is medical advice, and it is not fit for clinical use.",
)


def card_text(record: Record, student: Student, adapters: int, warnings: Sequence[str]) -> str:
    """Return the card of a variant; every text that is not ours is shown as text and never as markup."""
    many = f"{adapters} adapters whose probabilities are averaged"
    students = "one adapter" if adapters == 1 else many
    quantized = f", packed to {_code(student.quantize)}" if student.quantize else ""
    lines = [
        f"# Variant {_code(record.name)}",
        "",
        f"A student of {_code(student.base_model)}{quantized}: {students}. It reads an abstract and a "
        f"question and gives the probabilities of {', '.join(student.labels)}.",
        "",
        f"- base: sha256 {_code(student.base_sha256)}, revision {_code(student.base_revision)}",
        f"- prompt: {_code(student.prompt)}, at most {student.max_tokens} tokens",
        f"- made by: {_code(record.fingerprint)} (fingerprint of its stages in dvc.lock)",
        "",
        "## Scores",
        "",
        "| | dev | test |",
        "|---|---|---|",
        *_scores(record),
        "",
        *[f"- {_text(warning)}" for warning in warnings],
        "",
        "## Data",
        "",
        "| data | file | MD5 in dvc.lock |",
        "|---|---|---|",
        *[f"| {i.context} | {_code(i.source)} | {_code(i.digest)} |" for i in record.inputs],
        "",
        "## Limits",
        "",
        *[f"- {limit}" for limit in _LIMITS],
        "",
        "## Settings",
        "",
        *[f"- {_code(key)}: {_code(value)}" for key, value in record.params.items()],
        "",
    ]
    return "\n".join(lines)


def description(card: str) -> str:
    """Return as much of a card as MLflow's page of a version can hold, whole lines."""
    if len(card) <= MAX_DESCRIPTION:
        return card
    end = f"\n(cut; the whole card is {CARD} among the version's files)\n"
    kept = card[: MAX_DESCRIPTION - len(end)]
    return kept[: kept.rfind("\n")] + end


def _scores(record: Record) -> list[str]:
    names = [key.removeprefix("test.") for key in record.metrics if key.startswith("test.")]
    names += [key.removeprefix("dev.") for key in record.metrics if key.startswith("dev.")]
    rows = []
    for name in sorted(set(names)):
        values = [record.metrics.get(f"{part}.{name}") for part in ("dev", "test")]
        shown = ["" if value is None else f"{value:.6g}" for value in values]
        rows.append(f"| {name} | {shown[0]} | {shown[1]} |")
    return rows


def _code(value: object) -> str:
    """Return a code span on one line that nothing in the value can end."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text or ' '}`"


def _text(value: str) -> str:
    escaped = html.escape(" ".join(value.split()), quote=False)
    return "".join(f"\\{c}" if c in "`*_[]|#<>!\\" else c for c in escaped)
