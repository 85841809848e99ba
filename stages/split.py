"""split: cut the questions into the folds in use and the test half."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import click

from medslm.data.fetch import Unlabelled, raw_file, raw_unlabelled_file
from medslm.data.pubmedqa import read_questions
from medslm.data.split import (
    SplitParams,
    pmids_sha256,
    select,
    split,
    unlabelled_part,
    write_folds,
)
from medslm.errors import stage
from medslm.files import write_json, write_jsonl
from medslm.params import load_all, load_section

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--raw", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, raw: Path, out: Path, metrics: Path) -> None:
    """Write train (of any fold in use), dev (of any), test, unlabelled and the folds themselves."""
    knobs = load_section(params, "split", SplitParams)
    wanted: Unlabelled = load_all(params, "data.unlabelled", Unlabelled)
    questions = read_questions(raw_file(raw))
    more = raw_unlabelled_file(raw)

    result = split(questions, protocol=knobs.protocol)
    folds = select(result, knobs.folds)
    chosen = {
        "train": {pmid for fold in folds.values() for pmid in fold.train},
        "dev": {pmid for fold in folds.values() for pmid in fold.dev},
        "test": set(result.test),
    }
    parts = {name: [q for q in questions if q.pmid in pmids] for name, pmids in chosen.items()}
    limit = None if wanted is None or wanted == "sample" else wanted.limit
    free = unlabelled_part(read_questions(more) if more else [], questions, limit=limit)
    parts["unlabelled"] = free.questions

    for name, rows in parts.items():
        write_jsonl(out / f"{name}.jsonl", rows)
    write_folds(out / "folds.json", folds)
    counts = {
        name: {"n": len(rows), **Counter(str(q.answer) for q in rows if q.answer is not None)}
        for name, rows in parts.items()
    }
    counts["unlabelled"]["left_out_as_labelled"] = free.labelled
    write_json(metrics, {**counts, "test_pmids_sha256": pmids_sha256(result.test)})
    log.info("%s", ", ".join(f"{len(rows)} {name}" for name, rows in parts.items()))


if __name__ == "__main__":
    main()
