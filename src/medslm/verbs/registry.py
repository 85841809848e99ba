"""Promote, list, trace and use registered models, and keep MLflow in line."""

from __future__ import annotations

from pathlib import Path

import click

from medslm.errors import ParamsError, stage


@click.command()
@click.option(
    "--force", "reason", metavar="REASON", help="Promote without a gain; REASON is recorded."
)
@stage
def promote(reason: str | None) -> None:
    """Make the registered challenger the champion, if everything about it is in order.

    Refused: uncommitted changes, a stale pipeline, a failed gate, no gain over the champion on dev.
    """
    from medslm.tracking.promote import promote as run_promote

    click.echo(str(run_promote(Path.cwd(), force_reason=reason)))


@click.command()
@stage
def rollback() -> None:
    """Give the champion alias back to the version before."""
    from medslm.tracking.promote import rollback as run_rollback

    click.echo(str(run_rollback(Path.cwd())))


@click.command()
@click.option("--card", metavar="VERSION", help="Print the model card of this version or alias.")
@stage
def models(card: str | None) -> None:
    """List the registered versions with their aliases, scores and commits."""
    from medslm.tracking import listing

    click.echo(listing.models(Path.cwd()) if card is None else listing.card(Path.cwd(), card))


@click.command()
@click.argument("question", required=False)
@click.option(
    "--context", type=click.Path(path_type=Path), help="A text file with the abstract; - is stdin."
)
@click.option(
    "--batch",
    type=click.Path(path_type=Path),
    help="Questions as JSON Lines instead: question and context.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the answers to --batch go.")
@click.option(
    "--model", "wanted", default="champion", show_default=True, help="An alias or a version."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@stage
def answer(
    question: str | None,
    context: Path | None,
    batch: Path | None,
    out: Path | None,
    wanted: str,
    as_json: bool,
) -> None:
    """Let a registered model answer QUESTION about the abstract in --context, or a file of questions.

    Research only: nothing it says is medical advice.
    """
    from medslm.files import dump_json
    from medslm.tracking.answering import answer as run_answer
    from medslm.tracking.answering import asked_of, read_asked, write_answered

    if batch is not None and out is not None and question is None and context is None:
        asked = read_asked(batch)
        write_answered(out, asked, run_answer(Path.cwd(), asked, wanted))
        click.echo(f"{out}: {len(asked)} answers")
        return
    if question is None or context is None or batch is not None or out is not None:
        raise ParamsError("give a QUESTION and --context FILE, or --batch FILE and --out FILE")
    [found] = run_answer(Path.cwd(), [asked_of(question, context)], wanted)
    click.echo(dump_json(found.as_json()) if as_json else str(found))


@click.command()
@click.argument("what", metavar="VERSION|RUN|PAIR|PMID")
@click.option("--reproduce", is_flag=True, help="Print the commands that make it again.")
@stage
def lineage(what: str, reproduce: bool) -> None:
    """Print where a model comes from, or where a study or a generated pair went.

    VERSION is v3, champion, challenger or previous; RUN an MLflow run; PAIR an id like
    local-new:90000001:0; PMID a study's.
    """
    from medslm.tracking.tracing import trace

    click.echo(trace(Path.cwd(), what, reproduce=reproduce))


@click.command()
@click.option(
    "--history",
    metavar="REV",
    help="Also log the runs of the commits up to REV (say HEAD), from git alone.",
)
@stage
def sync(history: str | None) -> None:
    """Send MLflow the runs that wait since it was down, each once.

    With --history a new or lost database gets the runs of earlier commits too.
    """
    from medslm.tracking.sync import sync as run_sync

    click.echo(str(run_sync(Path.cwd(), history)))
