"""report: write the page, its pictures, a summary for pull requests and the data of DVC's plots."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.evaluation.background import Names, Places, read_background
from medslm.evaluation.compare import Answers, Asks, CompareParams, lines_above
from medslm.evaluation.curves import mean_curve, read_history
from medslm.evaluation.digest import summary
from medslm.evaluation.history import outs_of
from medslm.evaluation.pictures import draw, files
from medslm.evaluation.report import page, require_known
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import read_record, read_sheet
from medslm.files import write_text, writing_folder
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
@click.option("--diversity", type=click.Path(path_type=Path), required=True, help="Its metrics.")
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
    diversity: Path,
    lock: Path,
    out: Path,
    short: Path,
    plots: Path,
) -> None:
    """Read verdict, scores, histories and counts, draw, write page, summary and pictures."""
    asks, answers, variants = (
        list(load_all(params, section, kind))
        for section, kind in (("asks", Asks), ("answers", Answers), ("variants", Variants))
    )
    baselines = lines_above(load_section(params, "compare", CompareParams).baselines, answers)
    comparison = read_record(compared, Comparison)
    require_known(comparison, variants=variants, baselines=baselines)
    sheets = {name: read_sheet(scores, name) for name in [*baselines, *variants]}
    histories = {v: read_history(train_metrics / f"{v}.csv") for v in variants}
    background = read_background(
        Names(asks, answers, variants, baselines),
        Places(quality, votes, spend, diversity),
        histories,
        outs_of(lock),
    )

    pictures = draw(comparison, sheets, {v: mean_curve(rows) for v, rows in histories.items()})
    text = page(comparison, sheets, pictures, background)

    with writing_folder(plots) as folder:
        for name, body in files(pictures, comparison, sheets[comparison.chosen]).items():
            write_text(folder / name, body)
    write_text(short, summary(comparison, sheets, background))
    write_text(out, text)
    log.info("%d variants, %d asks, %d pictures", len(variants), len(asks), len(pictures.all()))


if __name__ == "__main__":
    main()
