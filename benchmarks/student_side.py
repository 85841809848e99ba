"""Our side of the student's benchmarks, in a process of its own: the public functions, timed.

Prints one line of JSON. ``rate`` is the machine's own rate of matrix products, measured just before.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.prompts import Prompt, read_prompts
from medslm.data.records import ANSWERS
from medslm.models import Loaded, load_causal_lm
from medslm.student import flops
from medslm.student.flops import Recipe
from medslm.student.lora import add_lora
from medslm.student.prompting import encode
from medslm.student.rows import Labelled
from medslm.student.scoring import Scorer, best_answer
from medslm.student.shapes import read_shape
from medslm.student.tuning import Cell

MAX_TOKENS = 1024
RANK = 16


@click.command()
@click.argument("what", type=click.Choice(["train", "score"]))
@click.option("--prompts", "file", type=click.Path(path_type=Path), required=True)
@click.option("--model", required=True)
@click.option("--layers", default="all")
@click.option("--batch", type=int, default=8)
@click.option("--epochs", type=int, default=1)
@click.option("--dtype", default="bfloat16")
def main(
    what: str, file: Path, model: str, layers: str, batch: int, epochs: int, dtype: str
) -> None:
    """Train or score the prompts in FILE and print the figures."""
    loaded = load_causal_lm(model, revision=None, dtype=dtype)  # type: ignore[arg-type]
    found = read_prompts(file)
    rate = gemm_rate(dtype)
    if what == "train":
        figures = train(loaded, model, found, layers, batch, epochs)
    else:
        figures = score(loaded, found, layers, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    json.dump({**figures, "rate": rate, "peak_gb": round(peak, 2)}, sys.stdout)


def train(
    loaded: Loaded, model: str, prompts: list[Prompt], layers: str, batch: int, epochs: int
) -> dict[str, Any]:
    """Train one cell, the cache of its lower layers included, without a dev fold to speak of."""
    examples = _labelled(loaded, prompts)
    shape = read_shape(model, None)
    tuned = add_lora(
        loaded, r=RANK, alpha=2 * RANK, dropout=0.0, targets="all-linear", layers=layers
    )
    cell = Cell(
        loaded,
        tuned,
        lr=5e-4,
        warmup=0.1,
        weight_decay=0.0,
        clip=1.0,
        batch_size=batch,
        epochs=epochs,
        seed=0,
        reuse_frozen=layers != "all",
    )
    started = time.perf_counter()
    result = cell.train(examples, examples[:1], checkpoints=None, every_s=1e9)
    seconds = time.perf_counter() - started
    trained = shape.layers if layers == "all" else int(layers.removeprefix("top-"))
    recipe = Recipe("lora", RANK, trained, cached=layers != "all")
    lengths = [len(e.ids) for e in examples]
    useful = epochs * sum(flops.step(shape, recipe, n).total for n in lengths)
    if recipe.cached:
        useful += sum(flops.building(shape, recipe, n).total for n in lengths)
    losses = [row.train_loss for row in result.history]
    return {
        "seconds": seconds,
        "examples": len(examples) * epochs,
        "useful": useful,
        "loss": losses,
    }


def score(loaded: Loaded, prompts: list[Prompt], layers: str, batch: int) -> dict[str, Any]:
    """Answer every prompt, tokenising included; with top-N also a further adapter on stored states."""
    import torch

    scorer = Scorer(loaded, max_tokens=MAX_TOKENS, batch_size=batch)
    started = time.perf_counter()
    found = scorer.probabilities([(p.context, p.question) for p in prompts])
    seconds = time.perf_counter() - started
    figures: dict[str, Any] = {
        "seconds": seconds,
        "examples": len(prompts),
        "answers": [best_answer(p) for p in found],
    }
    if layers == "all":
        return figures
    from medslm.student.frozen import frozen_below
    from medslm.student.lora import adapted_layers

    adapted = adapted_layers(loaded.model.config.num_hidden_layers, layers)
    frozen = frozen_below(scorer.head.body, adapted)
    assert frozen is not None
    states = frozen.hidden([e.ids for e in _labelled(loaded, prompts)], batch)
    order = sorted(range(len(states)), key=lambda i: -len(states[i]))
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = [states[i] for i in order[start : start + batch]]
            scorer.head.answer_logits(frozen.finish(chosen), [len(s) for s in chosen])
    return {**figures, "further_adapter_s": time.perf_counter() - started}


def gemm_rate(dtype: str) -> float:
    """Return operations per second of a product of SmolLM2's feed-forward shape on 8 x 340 tokens."""
    import torch

    a = torch.ones(2720, 576, dtype=getattr(torch, dtype))
    b = torch.ones(576, 1536, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(60):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * 2720 * 576 * 1536 / median(seconds[10:])


def _labelled(loaded: Loaded, prompts: list[Prompt]) -> list[Labelled]:
    return [
        Labelled(
            encode(loaded.tokenizer, p.context, p.question, max_tokens=MAX_TOKENS).ids,
            ANSWERS.index(p.answer),
        )
        for p in prompts
    ]


if __name__ == "__main__":
    main()
