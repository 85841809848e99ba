"""mix: put together the training set of one variant."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.mix import Mix, counts_of, mix, repeated
from medslm.data.quotas import within
from medslm.data.records import Pair, Question
from medslm.data.variants import Balanced, Variants, asks_of, length_of
from medslm.errors import ParamsError, stage
from medslm.files import read_jsonl, write_json, write_jsonl
from medslm.params import load_all

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--variant", required=True)
@click.option("--train", type=click.Path(path_type=Path), required=True)
@click.option("--unlabelled", type=click.Path(path_type=Path), required=True)
@click.option("--pool", type=click.Path(path_type=Path), required=True, help="Folder of pool.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--metrics", type=click.Path(path_type=Path), required=True)
@stage
def main(
    params: Path,
    variant: str,
    train: Path,
    unlabelled: Path,
    pool: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Write the real training questions and the kept pairs of the variant's asks, repeated for a control."""
    variants = load_all(params, "variants", Variants)
    if variant not in variants:
        raise ParamsError(f"{params}: variants.{variant}: this key is required and missing")
    known = load_all(params, "asks", dict[str, object])
    questions = read_jsonl(train, Question), read_jsonl(unlabelled, Question)

    def mixed(name: str) -> Mix:
        entry = variants[name]
        asks = asks_of(entry)
        if unknown := [ask for ask in asks if ask not in known]:
            raise ParamsError(
                f"{params}: variants.{name}: {unknown[0]!r} is not one of asks: {sorted(known)}"
            )
        kept = {ask: read_jsonl(pool / f"{ask}.jsonl", Pair) for ask in asks}
        whole = mix(*questions, kept)
        return (
            within(whole, entry.quotas, seed=entry.seed) if isinstance(entry, Balanced) else whole
        )

    whole = mixed(variant)
    if (longer := length_of(variants, variant)) is not None:
        rows = repeated(whole.examples, len(mixed(longer).examples), seed=variant)
        whole = whole._replace(examples=rows)
    counts = counts_of(whole, asks_of(variants[variant]))

    write_jsonl(out, whole.examples)
    write_json(metrics, counts)
    by_source = {source: sum(rows.values()) for source, rows in counts["by_source"].items()}
    log.info("%s: %s; left out: %s", variant, by_source, whole.left_out or "none")


if __name__ == "__main__":
    main()
