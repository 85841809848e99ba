"""check: keep or drop every candidate pair, and evaluate the kept ones as a whole."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Ballot, Pair, Question, Unreadable
from medslm.errors import ParamsError, stage
from medslm.files import read_jsonl, write_json, write_jsonl, writing_folder
from medslm.params import load_all, load_section
from medslm.quality.check import check
from medslm.quality.decisions import outdated, read_decisions
from medslm.quality.embeddings import MiniLM, require_package
from medslm.quality.expectations import evaluate
from medslm.quality.expected import Table
from medslm.quality.guard import Bounds, Guard, counted, require_no_test_hit
from medslm.quality.rules import Limits
from medslm.quality.settings import ExpectationParams, LeakageParams, RuleParams
from medslm.quality.suites.pairs import COLUMNS, rows_of, suite
from medslm.quality.summary import summarise
from medslm.quality.verdict import as_json, report_of

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--ask", required=True, help="Name of the ask in params.yaml.")
@click.option("--pairs", type=click.Path(path_type=Path), required=True, help="Folder of parse.")
@click.option("--votes", type=click.Path(path_type=Path), required=True)
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option(
    "--review", type=click.Path(path_type=Path), required=True, help="Decisions of people."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    ask: str,
    pairs: Path,
    votes: Path,
    train: Path,
    unlabelled: Path,
    dev: Path,
    test: Path,
    review: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Read pairs, votes, decisions and all parts, write kept and dropped, the report and the counts."""
    limits = Limits(**load_section(params, "quality.rules", RuleParams).model_dump())
    guarding = load_section(params, "quality.leakage", LeakageParams)
    if guarding.embeddings:
        require_package()
    whole = load_section(params, "quality.expectations", ExpectationParams).model_dump()
    strategy = load_all(params, f"asks.{ask}.strategy", str)
    floors = whole.pop("min_kept")
    if strategy not in floors:
        raise ParamsError(f"{params}: quality.expectations.min_kept.{strategy}: is missing")
    candidates = read_jsonl(pairs / "pairs.jsonl", Pair)
    unreadable = read_jsonl(pairs / "unreadable.jsonl", Unreadable)
    ballots = read_jsonl(votes, Ballot)
    parts = {
        "train": read_jsonl(train, Question),
        "unlabelled": read_jsonl(unlabelled, Question),
        "dev": read_jsonl(dev, Question),
        "test": read_jsonl(test, Question),
    }
    decisions = read_decisions(review)

    bounds = Bounds(**guarding.model_dump(exclude={"embeddings", "acknowledged"}))
    embed = MiniLM() if guarding.embeddings else None
    guard = Guard(parts["dev"], parts["test"], bounds, embed)
    matches = guard.matches(candidates, parts["unlabelled"])
    require_no_test_hit(matches, frozenset(guarding.acknowledged))
    leaking = {match.pair_id for match in matches}
    checked = check(
        candidates, ballots, limits=limits, leaking=leaking, decisions=decisions, **parts
    )
    rows = rows_of(checked.kept, ballots, leak_overlap=limits.leak_overlap, **parts)
    expected = suite(ask=ask, strategy=strategy, min_kept=floors[strategy], **whole)
    report = report_of("pairs", ask, evaluate(Table(COLUMNS, rows), expected).outcomes)
    counts = summarise(candidates, unreadable, ballots, checked, report, parts["train"])
    counts["held_out"] = counted(matches)

    with writing_folder(out) as folder:
        write_jsonl(folder / "kept.jsonl", checked.kept)
        write_jsonl(folder / "dropped.jsonl", checked.dropped)
        write_jsonl(folder / "matches.jsonl", matches)
        write_json(folder / "expectations.json", as_json(report))
    write_json(metrics, counts)
    if old := outdated(candidates, decisions):
        log.warning(
            "%s: %d pair(s) changed since they were decided on and have to be looked at again: %s",
            *(ask, len(old), ", ".join(old[:5])),
        )
    log.info(
        "%s: kept %d of %d pairs; expectations: %d of %d hold, %d critical failed",
        *(ask, len(checked.kept), len(candidates), report.statistics.successful),
        *(report.statistics.evaluated, report.statistics.failed_critical),
    )


if __name__ == "__main__":
    main()
