"""gate: stop before training when the generated data as a whole are not what they should be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.errors import stage
from medslm.files import write_json
from medslm.params import load_all
from medslm.quality.verdict import judge, read_report, require_passed

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--checked", type=click.Path(path_type=Path), required=True, help="Folder of check.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, checked: Path, out: Path) -> None:
    """Read the report of every ask in params.yaml, write the verdict, fail if it is bad."""
    asks = load_all(params, "asks", dict[str, Any])
    reports = [read_report(checked / ask / "expectations.json", ask) for ask in asks]

    verdict = judge(reports)

    write_json(out, verdict)
    require_passed(verdict)
    warned = sum(len(found["failed_warning"]) for found in verdict["asks"].values())
    log.info("passed: %d ask(s), %d warning(s)", len(reports), warned)


if __name__ == "__main__":
    main()
