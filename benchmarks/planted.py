"""How many planted defects the checks find, and how many clean pairs they drop for nothing.

    python -m benchmarks.planted --out metrics/planted.json

Fifty defects of each kind (`tests/quality/planted.py`) among 360 clean fictional pairs, with the knobs of
params.yaml. With the package of the extra `embeddings` the same is measured with sentence vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from tests.quality.fictional import World, world
from tests.quality.planted import Judge, measured

from medslm.errors import ParamsError
from medslm.files import write_json
from medslm.params import load_section
from medslm.quality.embeddings import MiniLM, require_package
from medslm.quality.guard import Bounds
from medslm.quality.rules import Limits
from medslm.quality.settings import LeakageParams, RuleParams


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(params: Path, out: Path) -> None:
    """Write recall per kind and false drops, without and with sentence vectors."""
    found = {"letters": measure(params, None)}
    try:
        require_package()
    except ParamsError as exc:
        click.echo(f"without vectors: {exc}")
    else:
        found["vectors"] = measure(params, MiniLM())
    write_json(out, found)
    for name, row in found.items():
        kinds = row["kinds"]
        weak = {kind: of["recall"] for kind, of in kinds.items() if of["recall"] < 1}
        click.echo(f"{name}: {len(kinds)} kinds, clean dropped {row['clean']}, below 1: {weak}")


def measure(params: Path, embed: Any | None) -> dict[str, Any]:
    """Return the counts for the knobs of a params file."""
    there = world()
    return measured(there, judge_of(params, there, embed), vectors=embed is not None)


def judge_of(params: Path, there: World, embed: Any | None = None) -> Judge:
    """Return what judges pairs with the knobs of a params file."""
    limits = Limits(**load_section(params, "quality.rules", RuleParams).model_dump())
    knobs = load_section(params, "quality.leakage", LeakageParams)
    bounds = Bounds(**knobs.model_dump(exclude={"embeddings", "acknowledged"}))
    return Judge(there, limits, bounds, embed)


if __name__ == "__main__":
    main()
