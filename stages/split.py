"""split: cut the questions into the folds in use and the test half."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import click

from medslm.data.fetch import raw_file
from medslm.data.pubmedqa import read_questions
from medslm.data.split import SplitParams, pmids_sha256, select, split, write_folds
from medslm.errors import stage
from medslm.files import write_json, write_jsonl
from medslm.params import load_section

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--raw", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, raw: Path, out: Path, metrics: Path) -> None:
    """Write train (of any fold in use), dev (of any), test and the folds themselves."""
    knobs = load_section(params, "split", SplitParams)
    questions = read_questions(raw_file(raw))

    result = split(questions, protocol=knobs.protocol)
    folds = select(result, knobs.folds)
    chosen = {
        "train": {pmid for fold in folds.values() for pmid in fold.train},
        "dev": {pmid for fold in folds.values() for pmid in fold.dev},
        "test": set(result.test),
    }
    parts = {name: [q for q in questions if q.pmid in pmids] for name, pmids in chosen.items()}

    for name, rows in parts.items():
        write_jsonl(out / f"{name}.jsonl", rows)
    write_folds(out / "folds.json", folds)
    counts = {
        name: {"n": len(rows), **Counter(str(q.answer) for q in rows)}
        for name, rows in parts.items()
    }
    write_json(metrics, {**counts, "test_pmids_sha256": pmids_sha256(result.test)})
    log.info("%s", ", ".join(f"{len(rows)} {name}" for name, rows in parts.items()))


if __name__ == "__main__":
    main()
