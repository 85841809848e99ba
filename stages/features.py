"""features: what the frozen layers make of every prompt, once for all variants, folds and seeds."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from medslm.data.records import Example, Question
from medslm.data.variants import Variants
from medslm.errors import ParamsError, stage, work_dir
from medslm.files import lock, read_jsonl
from medslm.models import load_causal_lm
from medslm.params import load_all, load_section
from medslm.student.features import build
from medslm.student.methods import first_adapted
from medslm.student.prompting import encode
from medslm.student.scoring import AnswerHead
from medslm.student.settings import StudentParams, TuneParams

log = logging.getLogger(__name__)

HELD_OUT = "heldout"


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--mix", "mixes", type=click.Path(path_type=Path), required=True)
@click.option("--dev", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, mixes: Path, dev: Path, test: Path, out: Path) -> None:
    """Compute the states that are missing; write an index per variant and one for the held-out questions."""
    student = load_section(params, "student", StudentParams)
    tune = load_section(params, "tune", TuneParams)
    variants = load_all(params, "variants", Variants)
    if HELD_OUT in variants:
        raise ParamsError(f"{params}: variants.{HELD_OUT}: this name is taken; choose another")
    loaded = load_causal_lm(
        student.model, revision=student.revision, dtype=student.dtype, quantize=tune.quantize
    )

    def ids(rows: list[Example] | list[Question]) -> list[list[int]]:
        texts = [(row.context, row.question) for row in rows]
        encoded = [encode(loaded.tokenizer, c, q, max_tokens=student.max_tokens) for c, q in texts]
        return [e.ids for e in encoded]

    held = {name: ids(read_jsonl(path, Question)) for name, path in (("dev", dev), ("test", test))}
    wanted = {v: ids(read_jsonl(mixes / f"{v}.jsonl", Example)) + held["dev"] for v in variants}
    first = 0
    if tune.reuse_frozen and AnswerHead(loaded).one_token:  # others run all layers for each answer
        first = first_adapted(tune, loaded.model.config.num_hidden_layers)
    with lock(work_dir() / "features.lock", "the stage features"):
        built = build(
            out,
            {**wanted, HELD_OUT: held["dev"] + held["test"]},
            loaded,
            first,
            batch_size=student.batch_size,
        )

    log.info("layers below %d: %d prompts computed, %d kept", first, built.computed, built.kept)


if __name__ == "__main__":
    main()
