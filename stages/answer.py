"""answer: let a teacher answer the held-out questions itself, after worked examples from train."""

from __future__ import annotations

from pathlib import Path

import click

from medslm.data.records import Question
from medslm.errors import stage, work_dir
from medslm.files import read_jsonl
from medslm.teacher.asking import carry_out
from medslm.teacher.settings import load_answers
from medslm.teacher.shots import showable


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option("--name", required=True, help="An entry of `answers` in params.yaml.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True, help="What it cost.")
@stage
def main(
    params: Path, name: str, train: Path, dev: Path, test: Path, out: Path, metrics: Path
) -> None:
    """Ask the dev and test questions that the journal lacks, then write all replies in order."""
    parts = {part: read_jsonl(path, Question) for part, path in (("dev", dev), ("test", test))}
    examples = showable(read_jsonl(train, Question), **parts)
    plan = load_answers(params, name, [*parts["dev"], *parts["test"]], examples)
    carry_out(plan, work=work_dir(), out=out, metrics=metrics)


if __name__ == "__main__":
    main()
