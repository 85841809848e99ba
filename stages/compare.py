"""compare: put all scores into one table and choose a variant on dev."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Prediction, Question
from medslm.data.variants import Variants
from medslm.errors import stage
from medslm.evaluation.compare import Answers, CompareParams, lines_above
from medslm.evaluation.score import gold_answers
from medslm.evaluation.sheet import read_sheet, write_record
from medslm.evaluation.table import markdown
from medslm.evaluation.verdict import verdict
from medslm.files import read_jsonl, write_text
from medslm.params import load_all, load_section

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option("--scores", type=click.Path(path_type=Path), required=True)
@click.option("--predictions", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--table", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, scores: Path, predictions: Path, test: Path, out: Path, table: Path) -> None:
    """Read scores and predictions of variants, baselines and answers, write verdict and table."""
    knobs = load_section(params, "compare", CompareParams)
    variants = load_all(params, "variants", Variants)
    baselines = lines_above(knobs.baselines, load_all(params, "answers", Answers))

    names = [*baselines, *variants]

    comparison = verdict(
        {name: read_sheet(scores, name) for name in names},
        {name: read_jsonl(predictions / f"{name}.jsonl", Prediction) for name in names},
        gold_answers(read_jsonl(test, Question)),
        variants=variants,
        baselines=baselines,
        metric=knobs.metric,
    )

    tested = comparison.differences
    write_record(out, comparison)
    write_text(table, markdown(comparison))
    log.info(
        "%d variants, %d baselines: chosen %s by %s; %d of %d differences shown; %d warnings",
        *(len(variants), len(baselines), comparison.chosen, knobs.metric),
        *(sum(d.is_shown_over_seeds for d in tested), len(tested), len(comparison.warnings)),
    )


if __name__ == "__main__":
    main()
