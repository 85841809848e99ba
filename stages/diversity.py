"""diversity: how varied the kept pairs of every ask are, beside the real questions."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import click

from medslm.data.records import Pair, Question
from medslm.errors import stage
from medslm.files import read_jsonl, write_json, write_text, writing_folder
from medslm.params import load_all, load_section
from medslm.quality.variety import (
    DiversityParams,
    Embed,
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
@click.option("--pool", type=click.Path(path_type=Path), required=True, help="Folder of pool.")
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@click.option("--plots", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@stage
def main(
    params: Path, pool: Path, train: Path, unlabelled: Path, metrics: Path, plots: Path
) -> None:
    """Read the kept pairs of all asks and their sources, write numbers and histograms of each group."""
    knobs = load_section(params, "quality.diversity", DiversityParams)
    asks = load_all(params, "asks", dict[str, Any])
    real = read_jsonl(train, Question)
    sources = {question.pmid: question for question in [*real, *read_jsonl(unlabelled, Question)]}
    kept = {ask: read_jsonl(pool / f"{ask}.jsonl", Pair) for ask in asks}

    generated = {ask: of_pairs(pairs, sources) for ask, pairs in kept.items()}
    beside = {"real": of_questions(real), "all": together(list(generated.values()))}
    measure = partial(numbers, sample=knobs.sample, embed=_embed() if knobs.embeddings else None)
    found = {name: measure(group) for name, group in beside.items()}
    found["asks"] = {ask: measure(group) for ask, group in generated.items()}

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


def _embed() -> Embed:
    """Load the model of sentence vectors; it and torch are loaded only where they are asked for."""
    from medslm.quality.embeddings import MiniLM, require_package

    require_package()
    return MiniLM()


if __name__ == "__main__":
    main()
