"""What shared beginnings and cached states gain: SmolLM2 on real abstracts, both ways in one process.

    python -m benchmarks.features --questions ori_pqal.json --replies replies.jsonl --studies 32

Each way runs twice, in turn, and the faster run counts: the machine may be shared.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from medslm.models import Loaded, load_causal_lm
from medslm.student.frozen import FrozenLayers
from medslm.student.padding import padded_ids
from medslm.student.prefixes import Group, groups
from medslm.student.prompting import encode
from medslm.student.scoring import AnswerHead


@click.command()
@click.option("--questions", type=click.Path(path_type=Path), required=True)
@click.option("--replies", type=click.Path(path_type=Path), required=True)
@click.option("--studies", type=int, default=32)
@click.option("--first", type=int, default=20, help="Number of the first adapted layer.")
@click.option("--model", default="smollm2-135m")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto")
def main(questions: Path, replies: Path, studies: int, first: int, model: str, dtype: Any) -> None:
    """Print seconds of both ways and their ratio, for building states and for scoring on them."""
    loaded = load_causal_lm(model, revision=None, dtype=dtype)
    prompts = _prompts(loaded, questions, replies, studies)
    body = loaded.model.base_model
    frozen = FrozenLayers(body, first)
    shared = groups(prompts)
    alone = [Group([i], len(p)) for i, p in enumerate(prompts)]
    click.echo(
        f"{len(prompts)} prompts, {len(shared)} groups, layers below {first}, {loaded.dtype}"
    )

    def build(chosen: list[Group]) -> Callable[[], object]:
        return lambda: [row for _, row in frozen.states(prompts, chosen, 16)]

    _compare(
        "states, one pass per prompt", build(alone), "states, shared beginnings", build(shared)
    )

    few = prompts[:: max(1, len(prompts) // 64)]
    states = frozen.hidden(few, 16)
    head = AnswerHead(loaded)

    def batched(work: Callable[[int], object]) -> Callable[[], object]:
        def run() -> None:
            import torch

            with torch.inference_mode():
                for i in range(0, len(few), 16):
                    work(i)

        return run

    every = batched(lambda i: body(input_ids=padded_ids(few[i : i + 16]), use_cache=False))
    exact = batched(lambda i: head.logits(few[i : i + 16]))
    cached = batched(lambda i: frozen.finish(states[i : i + 16]))
    _compare("scoring, last layer everywhere", every, "at the answer only", exact)
    _compare("scoring, all layers", exact, "on cached states", cached)


def _compare(
    name: str, one: Callable[[], object], other_name: str, other: Callable[[], object]
) -> None:
    seconds = defaultdict(list)
    for _ in range(2):
        for label, work in ((name, one), (other_name, other)):
            started = time.perf_counter()
            work()
            seconds[label].append(time.perf_counter() - started)
    slow, fast = min(seconds[name]), min(seconds[other_name])
    click.echo(f"{name}: {slow:.2f} s; {other_name}: {fast:.2f} s; ratio {slow / fast:.2f}")


def _prompts(loaded: Loaded, questions: Path, replies: Path, studies: int) -> list[list[int]]:
    asked = defaultdict(list)
    for line in replies.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        asked[row["pmid"]].append(row["reply"]["question"])
    found = []
    for pmid, study in json.loads(questions.read_text(encoding="utf-8")).items():
        if pmid in asked and len(found) < 4 * studies:
            context = "\n".join(study["CONTEXTS"])
            for question in [study["QUESTION"], *asked[pmid]]:
                ids = encode(loaded.tokenizer, context, question, max_tokens=1024).ids
                found.append(ids)
    return found


if __name__ == "__main__":
    main()
