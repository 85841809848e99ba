"""report: write the page, its pictures and the data of DVC's confusion plot."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.evaluation.compare import Answers, Asks, CompareParams, lines_above
from medslm.evaluation.curves import mean_curve, read_history
from medslm.evaluation.report import Quality, confusion_csv, draw, page, require_known
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import read_record, read_sheet
from medslm.evaluation.svg import standalone
from medslm.files import write_text, writing_folder
from medslm.params import load_all, load_section

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--compare", "compared", type=click.Path(path_type=Path), required=True)
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--train-metrics", type=click.Path(path_type=Path), required=True)
@click.option("--quality", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--plots", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    compared: Path,
    scores: Path,
    train_metrics: Path,
    quality: Path,
    out: Path,
    plots: Path,
) -> None:
    """Read verdict, scores, histories and quality counts, draw, write page and pictures."""
    variants = list(load_all(params, "variants", Variants))
    asks = list(load_all(params, "asks", Asks))
    named = load_section(params, "compare", CompareParams).baselines
    baselines = lines_above(named, load_all(params, "answers", Answers))
    comparison = read_record(compared, Comparison)
    require_known(comparison, variants=variants, baselines=baselines)

    sheets = {name: read_sheet(scores, name) for name in [*baselines, *variants]}
    curves = {v: mean_curve(read_history(train_metrics / f"{v}.csv")) for v in variants}
    counts = {ask: read_record(quality / f"{ask}.json", Quality) for ask in asks}
    pictures = draw(comparison, sheets, curves)
    text = page(comparison, sheets, pictures, counts)

    with writing_folder(plots) as folder:
        for plot in pictures.all():
            write_text(folder / plot.file, standalone(plot.picture))
        write_text(folder / "confusion.csv", confusion_csv(sheets[comparison.chosen]))
    write_text(out, text)
    log.info("%d variants, %d asks, %d pictures", len(variants), len(asks), len(pictures.all()))


if __name__ == "__main__":
    main()
