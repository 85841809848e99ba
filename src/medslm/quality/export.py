"""Kept pairs as a dataset that others can load: typed columns in Parquet and Arrow, a card, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from medslm.data.records import Pair, Question
from medslm.errors import DataError
from medslm.files import dump_json, read_json, sha256_of, sha256_of_json, write_text, writing_folder

ARROW = "arrow"  # for datasets.load_from_disk
PARQUET = "data/train.parquet"  # for datasets.load_dataset on the folder, and for anything else
CSV = "pairs.csv"
CARD = "README.md"

# Every column is text, so that nothing is guessed from its look: "0012" is a PMID and no number.
COLUMNS = (
    *("id", "pmid", "ask", "strategy", "teacher", "prompt", "reply_key"),
    *("source_question", "source_answer", "question", "context", "answer", "long_answer"),
)

# What makes a spreadsheet take a cell for a formula (OWASP, CSV injection), wide forms included.
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")

Row = dict[str, str | None]


class Written(NamedTuple):
    """What an export holds: its rows, and the hash of its Parquet file."""

    rows: int
    parquet: str


def rows_of(kept: Mapping[str, Sequence[Pair]], sources: Sequence[Question]) -> list[Row]:
    """Return one row per pair, sorted by id; DataError for a pair without its source or an id twice."""
    by_pmid = {question.pmid: question for question in sources}
    rows = [_row(ask, pair, by_pmid) for ask, pairs in kept.items() for pair in pairs]
    rows.sort(key=lambda row: row["id"] or "")
    for one, next_one in pairwise(rows):
        if one["id"] == next_one["id"]:
            raise DataError(f"pair {one['id']} occurs twice among the kept pairs; check again")
    return rows


def write_dataset(out: Path, rows: Sequence[Row], *, card: str, with_csv: bool) -> Written:
    """Write the folder, whole or not at all; DataError unless it is new or empty, or without rows.

    ``card`` may name ``{parquet_sha256}``. Equal rows give equal bytes.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: there is something already; name a new folder")
    if not rows:
        raise DataError(
            "there is no kept pair to export; metrics/quality says why they were dropped"
        )
    with writing_folder(out) as folder:
        _write_tables(folder, rows)
        digest = sha256_of(folder / PARQUET)
        write_text(folder / CARD, card.replace("{parquet_sha256}", digest))
        if with_csv:
            write_text(folder / CSV, as_csv(rows))
    return Written(len(rows), digest)


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows for a spreadsheet: a cell that would be a formula begins with an apostrophe."""
    stream = io.StringIO(newline="")
    # all quoted: a lone carriage return would end a row otherwise
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writeheader()
    for row in rows:
        table.writerow({name: _neutral(value or "") for name, value in row.items()})
    return stream.getvalue()


def _neutral(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_STARTS_FORMULA) else cell


def _row(ask: str, pair: Pair, sources: Mapping[str, Question]) -> Row:
    source = sources.get(pair.pmid)
    if source is None:
        raise DataError(
            f"pair {pair.id} of {ask} belongs to PMID {pair.pmid}, which is not a training one; "
            "run `medslm run` first"
        )
    return {
        "id": pair.id,
        "pmid": pair.pmid,
        "ask": ask,
        "strategy": pair.strategy,
        "teacher": pair.teacher,
        "prompt": pair.prompt,
        "reply_key": pair.reply_key,
        "source_question": source.question,
        "source_answer": source.answer,
        "question": pair.question,
        "context": pair.abstract(source),
        "answer": pair.answer,
        "long_answer": pair.long_answer,
    }


def _write_tables(folder: Path, rows: Sequence[Row]) -> None:
    import datasets

    features = datasets.Features({name: datasets.Value("string") for name in COLUMNS})
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in COLUMNS}
    table = datasets.Dataset.from_dict(columns, features=features)
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        (folder / PARQUET).parent.mkdir()
        table.to_parquet(folder / PARQUET)
        table.save_to_disk(folder / ARROW)
    finally:
        if not shown:
            datasets.enable_progress_bars()
    _settle(folder / ARROW / "state.json", rows)


def _settle(state: Path, rows: Sequence[Row]) -> None:
    """Give the saved dataset a fingerprint of its content; the library draws one by chance."""
    found = read_json(state)
    found["_fingerprint"] = sha256_of_json(list(rows))[:16]
    write_text(state, dump_json(found, indent=2) + "\n")
