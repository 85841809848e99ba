"""Ask a registered model: one question, or a file of them. Only packages that medslm made are loaded."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.errors import DataError, NotPromotable
from medslm.files import MAX_LINE_BYTES, dump_json, loads_strict, writing
from medslm.params import load_section
from medslm.tracking import registry
from medslm.tracking.ledger import TrackParams
from medslm.tracking.registry import CHALLENGER, CHAMPION, MANIFEST_SHA256, PREVIOUS, Version
from medslm.tracking.store import Store, opened

PREDICTION = "prediction"


class Asked(NamedTuple):
    """A question, the abstract it is about, and what else its line held."""

    question: str
    context: str
    rest: Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """A model's answer: probabilities, the most probable one, and which version gave them."""

    model: str
    version: str
    probabilities: Mapping[Answer, float]
    answer: Answer

    def __str__(self) -> str:
        """Say it in one line, for a terminal."""
        shares = ", ".join(f"{a} {self.probabilities[a]:.3f}" for a in ANSWERS)
        return f"{self.answer} ({shares}), {self.model} version {self.version}"

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "answer": self.answer,
            "model": self.model,
            "probabilities": dict(self.probabilities),
            "version": self.version,
        }


def answer(root: Path, asked: Sequence[Asked], wanted: str) -> list[Answered]:
    """Return the answers of the version that ``wanted`` names, an alias or a number, in the same order.

    Raises IntegrityError if a byte of its package is not as registered or the base is another one,
    NotPromotable if there is no such version, TrackingDown if the registry cannot be reached.
    """
    knobs = load_section(root / "params.yaml", "track", TrackParams)
    with tempfile.TemporaryDirectory() as folder:
        with opened(root, knobs.experiment) as store:
            version = find(store, knobs.registered_model, wanted)
            package = registry.fetch(store, version, Path(folder))
        return _ask(package, version, asked)


def find(store: Store, name: str, wanted: str) -> Version:
    """Return the version that an alias or a number (3, v3) names."""
    if wanted in (CHAMPION, CHALLENGER, PREVIOUS):
        number = registry.alias(store, name, wanted)
        if number is None:
            advice = (
                "`medslm promote`" if wanted == CHAMPION else "`medslm models` lists what there is"
            )
            raise NotPromotable(f"{name}: no version is {wanted} yet; {advice}")
        return registry.version(store, name, number)
    number = wanted.removeprefix("v")
    if not number.isdecimal():
        raise DataError(
            f"{wanted!r}: neither champion, challenger, previous nor a version's number"
        )
    return registry.version(store, name, number)


def asked_of(question: str, context: Path) -> Asked:
    """Return one question about the abstract in a file; ``-`` is standard input."""
    if context == Path("-"):
        text = sys.stdin.read()
    else:
        try:
            text = context.read_text(encoding="utf-8")
        except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as exc:
            raise DataError(f"{context}: not a text file that can be read ({exc})") from None
    where = "the question" if context == Path("-") else str(context)
    return Asked(_text(question, where, "question"), _text(text.strip(), where, "context"), {})


def read_asked(path: Path) -> list[Asked]:
    """Return the questions of a JSON Lines file: question and context, or sections as in data/split.

    Whatever else a line holds is kept. DataError names file, line and what is wrong.
    """
    found = []
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    with stream:
        for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), 1):
            found.append(_asked(line, f"{path}:{number}"))
    if not found:
        raise DataError(f"{path}: holds no question")
    return found


def write_answered(path: Path, asked: Sequence[Asked], found: Sequence[Answered]) -> None:
    """Write each line as it came, without the abstract, its answer under ``prediction``; all or nothing."""
    with writing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        for row, given in zip(asked, found, strict=True):
            body = {**row.rest, "question": row.question, PREDICTION: given.as_json()}
            stream.write(dump_json(body) + "\n")


def _ask(package: Path, version: Version, asked: Sequence[Asked]) -> list[Answered]:
    from medslm.student.scoring import best_answer
    from medslm.tracking.serving import Served

    served = Served(package, version.tags[MANIFEST_SHA256])
    rows = served.probabilities([(item.context, item.question) for item in asked])
    return [Answered(version.name, version.version, p, best_answer(p)) for p in rows]


def _asked(line: bytes, where: str) -> Asked:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"{where}: line is longer than {MAX_LINE_BYTES} bytes")
    try:
        body = loads_strict(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}: not JSON: {exc}") from None
    if not isinstance(body, dict):
        raise DataError(f"{where}: expected an object with question and context")
    rest = {k: v for k, v in body.items() if k not in ("question", "context", "sections")}
    if PREDICTION in rest:
        raise DataError(f"{where}: has a {PREDICTION} already; rename it")
    return Asked(_text(body.get("question"), where, "question"), _context(body, where), rest)


def _context(body: Mapping[str, Any], where: str) -> str:
    sections = body.get("sections")
    if "context" in body or not isinstance(sections, list):
        return _text(body.get("context"), where, "context")
    texts = [part.get("text") if isinstance(part, dict) else None for part in sections]
    return _text("\n".join(t for t in texts if isinstance(t, str)), where, "sections")


def _text(value: object, where: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(
            f"{where}: {name} is missing or empty: a question and its abstract are needed"
        )
    return value
