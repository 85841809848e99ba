"""Training beside TRL's SFTTrainer: one model, the same questions, one run; prints ratios."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.prompts import write_prompts
from benchmarks.sides import OURS, model_folder, peer_python, run_side


@click.command()
@click.option("--peers", type=click.Path(path_type=Path), help="A virtual environment with TRL.")
@click.option("--examples", default=96, show_default=True)
@click.option("--epochs", default=5, show_default=True, help="Of the cached mode.")
@click.option("--layers", default="top-10", show_default=True, help="Of the cached mode.")
@click.option("--model", help="A folder; by default the embedded SmolLM2-135M.")
@click.option("--dtype", default="bfloat16", show_default=True)
def main(
    peers: Path | None, examples: int, epochs: int, layers: str, model: str | None, dtype: str
) -> None:
    """Train exactly (all layers), then cached, then the peer for one epoch."""
    folder = model or model_folder()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "prompts.jsonl"
        count = write_prompts(file, examples)
        common = ["--prompts", str(file), "--model", folder]
        ours = [*OURS, "train", *common, "--dtype", dtype]
        exact = run_side([*ours, "--layers", "all"])
        cached = run_side([*ours, "--layers", layers, "--epochs", str(epochs)])
        theirs = None
        if peers is not None:
            script = str(Path(__file__).parent / "peer_trl.py")
            out = str(Path(scratch) / "trl")
            theirs = run_side([script, *common, "--out", out], python=peer_python(peers))
    rows = [("exact, all layers", exact), (f"cached, {layers}, {epochs} epochs", cached)]
    if theirs is not None:
        rows.append(("TRL SFTTrainer", theirs))
    click.echo(f"{count} questions; matrix products {exact['rate'] / 1e9:.0f} GFLOP/s\n")
    click.echo("| | examples/s | times TRL | useful share of the product rate | peak GB | loss |")
    click.echo("|---|---|---|---|---|---|")
    for name, side in rows:
        speed = side["examples"] / side["seconds"]
        ratio = "-"
        if theirs is not None:
            ratio = f"{speed / (theirs['examples'] / theirs['seconds']):.2f}"
        share = "-"
        if "useful" in side:
            share = f"{side['useful'] / side['seconds'] / side['rate']:.2f}"
        click.echo(
            f"| {name} | {speed:.2f} | {ratio} | {share} | {side['peak_gb']} | {side['loss']} |"
        )


if __name__ == "__main__":
    main()
