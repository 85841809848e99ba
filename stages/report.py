"""report: write the page, its pictures, a summary for pull requests and the data of DVC's plots."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.evaluation import background as behind
from medslm.evaluation.compare import Answers, Asks, CompareParams, lines_above
from medslm.evaluation.curves import mean_curve, read_history
from medslm.evaluation.digest import summary
from medslm.evaluation.history import outs_of
from medslm.evaluation.pictures import confusion_csv, draw, reliability_csv, scores_csv
from medslm.evaluation.report import page, require_known
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import read_record, read_sheet
from medslm.evaluation.svg import standalone
from medslm.files import read_json, write_text, writing_folder
from medslm.params import load_all, load_section

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--compare", "compared", type=click.Path(path_type=Path), required=True)
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--train-metrics", type=click.Path(path_type=Path), required=True)
@click.option("--quality", type=click.Path(path_type=Path), required=True)
@click.option("--votes", type=click.Path(path_type=Path), required=True)
@click.option("--spend", type=click.Path(path_type=Path), required=True)
@click.option("--diversity", type=click.Path(path_type=Path), default=None, help="Its metrics.")
@click.option("--lock", type=click.Path(path_type=Path), required=True, help="dvc.lock.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--summary", "short", type=click.Path(path_type=Path), required=True)
@click.option("--plots", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    compared: Path,
    scores: Path,
    train_metrics: Path,
    quality: Path,
    votes: Path,
    spend: Path,
    diversity: Path | None,
    lock: Path,
    out: Path,
    short: Path,
    plots: Path,
) -> None:
    """Read verdict, scores, histories and counts, draw, write page, summary and pictures."""
    variants = list(load_all(params, "variants", Variants))
    asks = list(load_all(params, "asks", Asks))
    answers = list(load_all(params, "answers", Answers))
    baselines = lines_above(load_section(params, "compare", CompareParams).baselines, answers)
    comparison = read_record(compared, Comparison)
    require_known(comparison, variants=variants, baselines=baselines)

    sheets = {name: read_sheet(scores, name) for name in [*baselines, *variants]}
    histories = {v: read_history(train_metrics / f"{v}.csv") for v in variants}
    counts = {ask: read_record(quality / f"{ask}.json", behind.Quality) for ask in asks}
    behind.require_whole(counts)
    background = behind.Background(
        quality=behind.quality_table(counts),
        votes=behind.votes_table(behind.read_optional(votes, asks)),
        diversity=behind.diversity_table(read_json(diversity)) if diversity else [],
        spend=behind.spend_table(behind.read_optional(spend, [*asks, *answers])),
        training=behind.training_table(histories),
        origins=behind.origins_table(
            outs_of(lock), asks=asks, variants=variants, baselines=baselines
        ),
    )
    pictures = draw(comparison, sheets, {v: mean_curve(rows) for v, rows in histories.items()})
    text = page(comparison, sheets, pictures, background)

    with writing_folder(plots) as folder:
        for plot in pictures.all():
            write_text(folder / plot.file, standalone(plot.picture))
        best = sheets[comparison.chosen]
        write_text(folder / "confusion.csv", confusion_csv(best))
        write_text(folder / "reliability.csv", reliability_csv(best))
        write_text(folder / "accuracy.csv", scores_csv(comparison, "accuracy"))
        write_text(folder / "macro-f1.csv", scores_csv(comparison, "macro_f1"))
    write_text(short, summary(comparison, sheets, background))
    write_text(out, text)
    log.info("%d variants, %d asks, %d pictures", len(variants), len(asks), len(pictures.all()))


if __name__ == "__main__":
    main()
