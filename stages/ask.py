"""ask: put one ask's questions to its teacher and keep every reply."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Question
from medslm.errors import stage, work_dir
from medslm.files import read_jsonl, write_jsonl
from medslm.teacher.asking import ask
from medslm.teacher.settings import load_plan
from medslm.teacher.store import open_store

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option("--ask", "name", required=True, help="An entry of `asks` in params.yaml.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, name: str, train: Path, out: Path) -> None:
    """Ask for every reply that the journal lacks, then write all of them in request order."""
    plan = load_plan(params, name, read_jsonl(train, Question))

    with open_store(work_dir() / "replies" / plan.teacher_name) as store:
        asked = ask(
            plan.requests,
            store=store,
            teacher=plan.teacher,
            teacher_name=plan.teacher_name,
            max_failed_share=plan.max_failed_share,
        )
        write_jsonl(out, asked.exchanges)

    failed = ", ".join(f"{reason} {count}" for reason, count in asked.failed.items()) or "none"
    log.info("%d asked, %d reused, failed: %s", asked.asked, asked.reused, failed)


if __name__ == "__main__":
    main()
