"""Read PubMedQA files, in the authors' JSON (PQA-L, PQA-U, PQA-A) or Hugging Face's columns, as questions.

Source of the layouts: github.com/pubmedqa/pubmedqa (data/ori_pqal.json) and the dataset
qiaojin/PubMedQA on Hugging Face.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medslm.data.records import ANSWERS, Passage, Question
from medslm.errors import DataError
from medslm.files import loads_strict, read_json

_REQUIRED = {"QUESTION", "CONTEXTS", "LONG_ANSWER"}
_OPTIONAL = {
    "LABELS",
    "MESHES",
    "YEAR",
    "final_decision",
    "reasoning_required_pred",
    "reasoning_free_pred",
}
_COLUMNS = {"pubid", "question", "context", "long_answer"}


def read_questions(path: Path) -> list[Question]:
    """Read every question of a PubMedQA file, in file order.

    ``.json`` is the authors' layout; ``.jsonl`` and ``.parquet`` are Hugging Face's columns. Anything
    unexpected raises DataError naming the file, the PMID and the field.
    """
    if path.suffix == ".json":
        return _from_authors(path, read_json(path))
    if path.suffix == ".jsonl":
        return _from_columns(path, _json_lines(path))
    if path.suffix == ".parquet":
        return _from_columns(path, _parquet_rows(path))
    raise DataError(f"{path}: PubMedQA files end in .json, .jsonl or .parquet")


def _from_authors(path: Path, body: Any) -> list[Question]:
    if not isinstance(body, dict) or not body:
        raise DataError(
            f"{path}: not PubMedQA: expected an object keyed by PMID with at least one entry"
        )
    questions = []
    for pmid, entry in body.items():
        where = f"{path}: PMID {pmid}"
        if not isinstance(entry, dict):
            raise DataError(
                f"{where}: not PubMedQA: expected an object, found {type(entry).__name__}"
            )
        _require_keys(where, set(entry), _REQUIRED, _OPTIONAL)
        questions.append(
            _question(
                where,
                pmid,
                question=entry["QUESTION"],
                contexts=entry["CONTEXTS"],
                labels=entry.get("LABELS"),
                long_answer=entry["LONG_ANSWER"],
                answer=entry.get("final_decision"),
            )
        )
    return questions


def _from_columns(path: Path, rows: Iterable[Any]) -> list[Question]:
    by_pmid: dict[str, Question] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: not PubMedQA: expected an object")
        _require_keys(where, set(row), _COLUMNS, {"final_decision"})
        context = row["context"]
        if not isinstance(context, dict) or "contexts" not in context:
            raise DataError(f"{where}: context: expected an object with `contexts`")
        pmid = row["pubid"]
        question = _question(
            where,
            str(pmid) if isinstance(pmid, int) and not isinstance(pmid, bool) else pmid,
            question=row["question"],
            contexts=context["contexts"],
            labels=context.get("labels"),
            long_answer=row["long_answer"],
            answer=row.get("final_decision"),
        )
        if by_pmid.setdefault(question.pmid, question) != question:
            raise DataError(f"{where}: PMID {question.pmid} stands twice with different content")
    if not by_pmid:
        raise DataError(f"{path}: holds no questions")
    return list(by_pmid.values())


def _question(
    where: str,
    pmid: Any,
    *,
    question: Any,
    contexts: Any,
    labels: Any,
    long_answer: Any,
    answer: Any,
) -> Question:
    if not isinstance(pmid, str) or not pmid.isascii() or not pmid.isdigit():
        raise DataError(f"{where}: not a PMID: {pmid!r}")
    if not isinstance(contexts, list) or not contexts:
        raise DataError(f"{where}: contexts: expected a list with at least one passage")
    if labels is None:
        labels = [""] * len(contexts)
    if not isinstance(labels, list) or len(labels) != len(contexts):
        raise DataError(f"{where}: labels: expected one per passage ({len(contexts)})")
    if answer is not None and answer not in ANSWERS:
        raise DataError(f"{where}: final_decision: {answer!r} is not one of yes, no, maybe")
    return Question(
        pmid=pmid,
        question=_text(where, "question", question),
        sections=tuple(
            Passage(_text(where, "labels", label, blank=True), _text(where, "contexts", text))
            for label, text in zip(labels, contexts, strict=True)
        ),
        long_answer=_text(where, "long answer", long_answer),
        answer=answer,
    )


def _text(where: str, field: str, value: Any, *, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {field}: expected text, found {type(value).__name__}")
    if not blank and not value.strip():
        raise DataError(f"{where}: {field}: is empty")
    return value


def _require_keys(where: str, found: set[str], required: set[str], optional: set[str]) -> None:
    if missing := sorted(required - found):
        raise DataError(f"{where}: not PubMedQA: {missing[0]} is missing")
    if unknown := sorted(found - required - optional):
        raise DataError(f"{where}: not PubMedQA: unknown field {unknown[0]!r}")


def _json_lines(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as exc:
        raise DataError(f"{path}: cannot be read: {exc}") from None
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            try:
                rows.append(loads_strict(line))
            except (ValueError, RecursionError) as exc:
                raise DataError(f"{path}:{number}: not JSON: {exc}") from None
    return rows


def _parquet_rows(path: Path) -> list[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        try:
            table = datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as exc:
            raise DataError(f"{path}: not a parquet file of PubMedQA columns") from exc
        return list(table.to_list())
