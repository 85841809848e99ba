"""diversity: how varied the kept pairs of every ask are, beside the real questions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.data.records import Pair, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_text, writing_folder
from medslm.params import load_all, load_section
from medslm.quality.variety import (
    DiversityParams,
    edits_csv,
    lengths_csv,
    numbers,
    of_pairs,
    of_questions,
    together,
)

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--checked", type=click.Path(path_type=Path), required=True, help="Folder of check.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@click.option("--plots", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(
    params: Path, checked: Path, train: Path, unlabelled: Path, metrics: Path, plots: Path
) -> None:
    """Read the kept pairs of all asks and their sources, write numbers and histograms of each group."""
    knobs = load_section(params, "quality.diversity", DiversityParams)
    asks = load_all(params, "asks", dict[str, Any])
    real = read_jsonl(train, Question)
    sources = {question.pmid: question for question in [*real, *read_jsonl(unlabelled, Question)]}
    kept = {ask: read_jsonl(checked / ask / "kept.jsonl", Pair) for ask in asks}

    generated = {ask: of_pairs(pairs, sources) for ask, pairs in kept.items()}
    beside = {"real": of_questions(real), "all": together(list(generated.values()))}
    found = {name: numbers(group, sample=knobs.sample) for name, group in beside.items()}
    found["asks"] = {ask: numbers(group, sample=knobs.sample) for ask, group in generated.items()}

    with writing_folder(plots) as folder:
        # no ask begins with an underscore
        named = {**generated, **{f"_{name}": group for name, group in beside.items()}}
        for name, group in named.items():
            write_text(
                folder / "words" / f"{name}.csv", lengths_csv(group, bin_words=knobs.bin_words)
            )
            write_text(folder / "edits" / f"{name}.csv", edits_csv(group))
    write_json(metrics, found)
    log.info(
        "%d asks; self-BLEU of questions: %s real (n = %d), %s generated (n = %d)",
        *(len(asks), found["real"]["self_bleu_4"], found["real"]["compared"]),
        *(found["all"]["self_bleu_4"], found["all"]["compared"]),
    )


if __name__ == "__main__":
    main()
