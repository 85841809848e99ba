"""parse: turn a teacher's replies into candidate pairs."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import click

from medslm.data.records import Exchange, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_jsonl, writing_folder
from medslm.quality.parse import parse_all

log = logging.getLogger(__name__)


@click.command()
@click.option("--ask", required=True, help="Name of the ask in params.yaml.")
@click.option("--replies", type=click.Path(path_type=Path), required=True)
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(ask: str, replies: Path, train: Path, unlabelled: Path, out: Path) -> None:
    """Read replies, write pairs and unreadable replies, both in request order."""
    exchanges = read_jsonl(replies, Exchange)
    sources = [*read_jsonl(train, Question), *read_jsonl(unlabelled, Question)]
    parsed = parse_all(exchanges, sources, ask)

    with writing_folder(out) as folder:
        write_jsonl(folder / "pairs.jsonl", parsed.pairs)
        write_jsonl(folder / "unreadable.jsonl", parsed.unreadable)
    reasons = Counter(reply.reason for reply in parsed.unreadable)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    log.info(
        "%s: %d pairs from %d replies; unreadable: %s",
        *(ask, len(parsed.pairs), len(exchanges), told or "none"),
    )


if __name__ == "__main__":
    main()
