"""ask: put one ask's questions to its teacher and keep every reply."""

from __future__ import annotations

from pathlib import Path

import click

from medslm.data.records import Question
from medslm.errors import stage, work_dir
from medslm.files import read_jsonl
from medslm.teacher.asking import carry_out
from medslm.teacher.settings import load_ask, load_plan


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option("--ask", "name", required=True, help="An entry of `asks` in params.yaml.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True, help="What it cost.")
@stage
def main(params: Path, name: str, train: Path, unlabelled: Path, out: Path, metrics: Path) -> None:
    """Ask for every reply that the journal lacks, then write all of them in request order."""
    source = train if load_ask(params, name).questions == "train" else unlabelled
    plan = load_plan(params, name, read_jsonl(source, Question))
    carry_out(plan, work=work_dir(), out=out, metrics=metrics)


if __name__ == "__main__":
    main()
