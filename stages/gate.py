"""gate: stop the pipeline when data as a whole are not what they should be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from medslm.errors import stage
from medslm.files import write_json
from medslm.params import load_all
from medslm.quality.verdict import PAIRS_REPORT, judge, read_report, require_passed, wanted

log = logging.getLogger(__name__)


@click.command()
@click.option("--params", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--what", type=click.Choice(["inputs", "mixes", "predictions"]), required=True)
@click.option("--reports", type=click.Path(path_type=Path), required=True, help="Of validate_….")
@click.option("--checked", type=click.Path(path_type=Path), help="Folder of check (inputs only).")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@stage
def main(params: Path, what: str, reports: Path, checked: Path | None, out: Path) -> None:
    """Read every report that has to be there, write the verdict, fail if it is bad."""
    section = "asks" if what == "inputs" else "variants"
    names = [*load_all(params, section, dict[str, Any])]
    found = [read_report(reports / w.file, w.suite, w.subject) for w in wanted(what, names)]
    if checked is not None:
        found += [read_report(checked / ask / PAIRS_REPORT, "pairs", ask) for ask in names]

    verdict = judge(found)

    write_json(out, verdict)
    require_passed(verdict)
    warned = sum(len(one["failed_warning"]) for one in verdict["reports"].values())
    log.info("passed: %d report(s), %d warning(s)", len(found), warned)


if __name__ == "__main__":
    main()
