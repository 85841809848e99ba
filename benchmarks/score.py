"""Scoring beside lm-evaluation-harness: one model, the same prompts and choices, one run; prints ratios."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.prompts import write_prompts
from benchmarks.sides import OURS, model_folder, peer_python, run_side


@click.command()
@click.option(
    "--peers", type=click.Path(path_type=Path), help="A virtual environment with lm-eval."
)
@click.option("--examples", default=500, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--layers", default="top-10", show_default=True, help="Of a further adapter.")
@click.option("--model", help="A folder; by default the embedded SmolLM2-135M.")
@click.option("--dtype", default="bfloat16", show_default=True)
def main(
    peers: Path | None, examples: int, batch: int, layers: str, model: str | None, dtype: str
) -> None:
    """Score with our code, again with a further adapter on stored states, then with the peer."""
    folder = model or model_folder()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "prompts.jsonl"
        count = write_prompts(file, examples)
        common = ["--prompts", str(file), "--model", folder, "--dtype", dtype]
        common += ["--batch", str(batch)]
        ours = run_side([*OURS, "score", *common, "--layers", layers])
        theirs = None
        if peers is not None:
            script = str(Path(__file__).parent / "peer_lm_eval.py")
            out = str(Path(scratch) / "lm-eval")
            theirs = run_side([script, *common, "--out", out], python=peer_python(peers))
    click.echo(f"{count} questions; matrix products {ours['rate'] / 1e9:.0f} GFLOP/s\n")
    further = ours["seconds"] / ours["further_adapter_s"]
    click.echo(f"ours: {count / ours['seconds']:.2f}/s")
    click.echo(f"further adapter on stored states: {further:.2f} times the whole pass")
    if theirs is not None:
        same = sum(a == b for a, b in zip(ours["answers"], theirs["answers"], strict=True))
        click.echo(f"lm-eval: {count / theirs['seconds']:.2f}/s")
        click.echo(f"ours is {theirs['seconds'] / ours['seconds']:.2f} times lm-eval")
        click.echo(f"same answer on {same} of {count}")


if __name__ == "__main__":
    main()
