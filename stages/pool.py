"""pool: the kept pairs of all asks together, without what repeats or contradicts across asks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.data.records import Doubt, Pair
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_jsonl, writing_folder
from medslm.params import load_all, load_section
from medslm.quality.decisions import read_decisions, verdicts
from medslm.quality.pool import counts_of, pool
from medslm.quality.settings import RuleParams

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--checked", type=click.Path(path_type=Path), required=True, help="Folder of check.")
@click.option("--doubt", type=click.Path(path_type=Path), required=True)
@click.option(
    "--review", type=click.Path(path_type=Path), required=True, help="What people decided."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, checked: Path, doubt: Path, review: Path, out: Path, metrics: Path) -> None:
    """Read the kept pairs of every ask in params.yaml, write those that stay and those that go."""
    asks = load_all(params, "asks", dict[str, Any])
    limits = load_section(params, "quality.rules", RuleParams)
    kept = {ask: read_jsonl(checked / ask / "kept.jsonl", Pair) for ask in asks}
    # who has read a pair and keeps it knows more than a probe
    said = verdicts([pair for pairs in kept.values() for pair in pairs], read_decisions(review))
    doubted = {one.pair_id for one in read_jsonl(doubt, Doubt) if one.doubted}

    pooled = pool(
        kept,
        near_identical=limits.near_identical,
        near_duplicate=limits.near_duplicate,
        doubted={pair_id for pair_id in doubted if said.get(pair_id) != "keep"},
    )
    counts = counts_of(kept, pooled)

    with writing_folder(out) as folder:
        for ask, pairs in pooled.kept.items():
            write_jsonl(folder / f"{ask}.jsonl", pairs)
        write_jsonl(folder / "dropped.jsonl", pooled.dropped)
    write_json(metrics, counts)
    log.info("kept %d of %d pairs of %d ask(s)", counts["kept"], counts["checked"], len(asks))


if __name__ == "__main__":
    main()
