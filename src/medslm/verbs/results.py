"""Compare runs and commits, and measure how results hang on a knob."""

from __future__ import annotations

from pathlib import Path

import click

from medslm.errors import stage
from medslm.verbs.running import dvc_environment


@click.command()
@click.argument("revisions", metavar="[REV [REV]]", nargs=-1)
@click.option("--whole", is_flag=True, help="Name every pair and file that changed, not the first.")
@stage
def compare(revisions: tuple[str, ...], whole: bool) -> None:
    """Print the comparison table of the last run, or what two git commits differ in.

    REV REV: the models of two commits on the same questions, paired, with intervals, and the settings,
    questions, generated pairs and code that changed. One REV: a commit and the working tree. Nothing
    is checked out; predictions come from DVC's cache.
    """
    if len(revisions) > 2:
        raise click.UsageError("at most two commits can be compared")
    if revisions:
        _compare_commits(revisions, whole=whole)
    else:
        _print_table(Path("metrics/compare.json"))


def _compare_commits(revisions: tuple[str, ...], *, whole: bool) -> None:
    from medslm.evaluation.commits import compare_commits, require_all
    from medslm.evaluation.commits_text import commits_text
    from medslm.evaluation.history import Revision, revision

    sides = [revision(Path.cwd(), name) for name in revisions]
    if len(sides) == 1:
        sides.append(Revision(Path.cwd(), None))
    found = compare_commits(*sides)
    click.echo(commits_text(found, whole=whole))
    require_all(found)


def _print_table(path: Path) -> None:
    from medslm.evaluation.rows import Comparison
    from medslm.evaluation.sheet import read_record
    from medslm.evaluation.table import table_text

    click.echo(table_text(read_record(path, Comparison)))
    report = Path("reports/report.html")
    if report.exists():
        click.echo(f"\nreport:  {report.absolute()}")
        click.echo("runs:    mlflow ui --backend-store-uri sqlite:///mlflow.db")


@click.group()
def sweep() -> None:
    """Measure how results hang on one knob of a tuning method: section `sweep` of params.yaml."""


@sweep.command("queue")
@stage
def sweep_queue() -> None:
    """Queue one DVC experiment per value; `dvc queue start` then runs them in the background."""
    from medslm.params import load_section
    from medslm.tracking.sweep import SweepParams, queue

    params = load_section(Path("params.yaml"), "sweep", SweepParams)
    queued = queue(Path.cwd(), params, dvc_environment())
    click.echo(
        f"{len(queued)} experiments queued; `dvc queue start` runs them, `dvc exp show` lists"
    )


@sweep.command("draw")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/robustness.svg"))
@click.option("--no-paper", is_flag=True, help="Leave out the values of Guo et al. 2023.")
@stage
def sweep_draw(out: Path, no_paper: bool) -> None:
    """Draw the finished experiments, accuracy and macro-F1 with intervals, and write their numbers."""
    from medslm.evaluation import robustness
    from medslm.evaluation.svg import standalone
    from medslm.files import write_text
    from medslm.params import load_section
    from medslm.tracking.sweep import SweepParams, points

    params = load_section(Path("params.yaml"), "sweep", SweepParams)
    done, missing = points(Path.cwd(), params, dvc_environment())
    picture = robustness.figure(done, variant=params.variant, cite=not no_paper)
    write_text(out, standalone(picture))
    write_text(out.with_suffix(".csv"), robustness.csv(done))
    for line in missing:
        click.echo(f"missing: {line}")
    click.echo(f"{out}: {len(done)} experiments, {len(missing)} missing")
