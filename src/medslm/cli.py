"""medslm: the verbs around the pipeline. The pipeline itself is ``dvc repro``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import click

from medslm.errors import ParamsError, stage, work_dir


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="medslm")
def main() -> None:
    """Turn a small medical question-answering dataset into a better small model.

    Edit params.yaml, then `medslm run` (or `dvc repro`) rebuilds what changed.
    """


@main.command()
@click.argument("targets", nargs=-1)
def run(targets: tuple[str, ...]) -> None:
    """Run `dvc repro` on TARGETS (default: all) and exit with the failing stage's own code.

    DVC turns every failure into 255; the codes are listed in docs/errors.md.
    """
    status = work_dir() / "status.json"
    status.unlink(missing_ok=True)
    command = ["dvc", "repro", *targets]
    code = subprocess.run(command, env=_dvc_environment(), check=False).returncode
    if code and status.exists():
        code = int(json.loads(status.read_text(encoding="utf-8"))["exit_code"])
    sys.exit(code)


def _dvc_environment() -> dict[str, str]:
    """Return an environment in which `dvc` and `python` are those beside this command, and private.

    DVC's default site cache is a folder of pickles that every user of the machine may write to
    (CVE-2025-69872).
    """
    site_cache = Path(".dvc/tmp/site-cache").absolute()
    site_cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    found.setdefault("DVC_SITE_CACHE_DIR", str(site_cache))
    return found


@main.command()
@click.argument("name", metavar="sample|pubmedqa|paper")
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option(
    "--questions", type=click.Path(path_type=Path), help="A PubMedQA file on this machine."
)
@click.option(
    "--replies", type=click.Path(path_type=Path), help="Recorded replies to use as the teacher."
)
@stage
def profile(name: str, params: Path, questions: Path | None, replies: Path | None) -> None:
    """Write a profile's values into params.yaml; all other lines and comments stay."""
    from medslm.files import write_text
    from medslm.profile import apply_profile, load_profile, use_questions, use_replies

    try:
        text = params.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{params}: no such file; run from the project's root") from None
    text = apply_profile(text, load_profile(name))
    if questions is not None:
        text = use_questions(text, questions)
    if replies is not None:
        text = use_replies(text, replies)
    write_text(params, text)
    click.echo(
        f"{params} is now the {name} profile; `git diff` shows the change, `medslm run` builds it"
    )


@main.command()
@click.option(
    "--params", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
)
@click.option(
    "--ask",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this entry of asks or answers, and nothing of the student.",
)
@click.option("--only", type=click.Choice(["teacher", "student"]), help="One half of the plan.")
@stage
def plan(params: Path, names: tuple[str, ...], only: str | None) -> None:
    """Print what a run would cost, before it: requests, tokens and dollars of the teacher, then
    operations, minutes, memory and disk of the student on this machine.

    Sends nothing, needs no key, loads no weights. Refuses (exit 45) what this machine cannot finish.
    """
    if only != "student":
        from medslm.teacher.bill import bill_text
        from medslm.teacher.planning import read_bill

        click.echo(bill_text(read_bill(params, names, date.today())))
    if only != "teacher" and not names:
        from medslm.student.plan_table import plan_text
        from medslm.student.planning import read_plan, require

        planned = read_plan(params)
        click.echo(f"\n{plan_text(planned)}")
        require(params, planned)


@main.command()
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


@main.command()
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


@main.command()
@stage
def rollback() -> None:
    """Give the champion alias back to the version before."""
    from medslm.tracking.promote import rollback as run_rollback

    click.echo(str(run_rollback(Path.cwd())))


@main.command()
@click.option("--card", metavar="VERSION", help="Print the model card of this version or alias.")
@stage
def models(card: str | None) -> None:
    """List the registered versions with their aliases, scores and commits."""
    from medslm.tracking import listing

    click.echo(listing.models(Path.cwd()) if card is None else listing.card(Path.cwd(), card))


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
@click.option("--ask", "asks", multiple=True, metavar="NAME", help="Only the pairs of this ask.")
@click.option(
    "--import",
    "download",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Merge a file that the page saved into data/review.jsonl, and stop.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("reports/review.html"), show_default=True
)
@click.option("--no-open", is_flag=True, help="Write the page and open no browser.")
@stage
def review(asks: tuple[str, ...], download: Path | None, out: Path, no_open: bool) -> None:
    """Look at the checked pairs beside their sources in a browser, and keep or drop them by key.

    The page is one file that works offline. Decisions are saved from it, merged with --import, kept
    in git and followed by the next `dvc repro`.
    """
    from medslm.quality.desk import merge_download, write_page

    params = Path("params.yaml")
    if download is not None:
        merged = merge_download(params, download)
        for line in merged.refused:
            click.echo(f"not taken: {line}", err=True)
        click.echo(
            f"data/review.jsonl: {len(merged.decisions)} decisions; {merged.new} new, "
            f"{merged.changed} changed, {merged.same} as before, {merged.cleared} cleared, "
            f"{len(merged.refused)} not taken; `dvc repro` follows them"
        )
        return
    click.echo(f"{out}: {write_page(params, out, asks)} pairs; save decisions there, then --import")
    if not no_open and _has_display():
        import webbrowser

        webbrowser.open(out.absolute().as_uri())


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option(
    "--variant", metavar="NAME", help="Only the generated pairs that this variant is trained on."
)
@click.option(
    "--ask", "asks", multiple=True, metavar="NAME", help="Only the kept pairs of this ask."
)
@click.option(
    "--csv", "with_csv", is_flag=True, help="Also write pairs.csv, safe to open in a spreadsheet."
)
@stage
def export(out: Path, variant: str | None, asks: tuple[str, ...], with_csv: bool) -> None:
    """Write the kept pairs as a dataset: Parquet, Arrow for `datasets`, and a card that says what it is."""
    from medslm.quality.shipping import export as run_export

    done = run_export(Path("params.yaml"), out, variant=variant, asks=asks, with_csv=with_csv)
    click.echo(f"{out}: {done.rows} pairs, parquet sha256 {done.parquet}")


@main.command("data-docs")
@click.argument("what", type=click.Choice(["inputs", "mixes", "predictions"]))
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/data-docs"))
@stage
def data_docs(what: str, out: Path) -> None:
    """Write Great Expectations' own pages on the inputs, the training sets or the predictions.

    Layout and fonts come from hosts on the internet; nothing in a page can run.
    """
    from medslm.quality.data_docs import jobs_of, write_data_docs

    names = write_data_docs(out, jobs_of(what, Path("params.yaml"), Path("data")))
    click.echo(f"{out}: {', '.join(names)}")


def _has_display() -> bool:
    """Tell whether a browser would have a screen; without one, some open in the terminal."""
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@main.group()
def sweep() -> None:
    """Measure how results hang on one knob of a tuning method: section `sweep` of params.yaml."""


@sweep.command("queue")
@stage
def sweep_queue() -> None:
    """Queue one DVC experiment per value; `dvc queue start` then runs them in the background."""
    from medslm.params import load_section
    from medslm.tracking.sweep import SweepParams, queue

    params = load_section(Path("params.yaml"), "sweep", SweepParams)
    queued = queue(Path.cwd(), params, _dvc_environment())
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
    done, missing = points(Path.cwd(), params, _dvc_environment())
    picture = robustness.figure(done, variant=params.variant, cite=not no_paper)
    write_text(out, standalone(picture))
    write_text(out.with_suffix(".csv"), robustness.csv(done))
    for line in missing:
        click.echo(f"missing: {line}")
    click.echo(f"{out}: {len(done)} experiments, {len(missing)} missing")


@main.group()
def replies() -> None:
    """Share, check and repair the paid replies of a teacher, one journal per teacher NAME."""


@replies.command("export")
@click.argument("name")
@click.argument("out", type=click.Path(path_type=Path))
@stage
def replies_export(name: str, out: Path) -> None:
    """Write all replies of NAME to OUT, the same bytes for the same replies; `dvc add` OUT."""
    from medslm.teacher.sharing import export

    click.echo(f"{out}: {export(_journal(name), out)} replies of {name}")


@replies.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@stage
def replies_import(name: str, file: Path) -> None:
    """Add the exported replies in FILE to those of NAME; what is there is not asked again."""
    from medslm.teacher.sharing import import_

    done = import_(_journal(name), file)
    click.echo(f"{name}: {done.added} replies added, {done.held} were there before")


@replies.command("verify")
@click.argument("name")
@stage
def replies_verify(name: str) -> None:
    """Read every line of NAME's journal; list what is there and what is damaged (exit 11)."""
    from medslm.teacher.sharing import require_undamaged, verified_text, verify

    found = verify(_journal(name))
    click.echo(verified_text(found))
    require_undamaged(found, name)


@replies.command("repair")
@click.argument("name")
@click.option("--retry-failed", is_flag=True, help="Also forget replies that are not whole.")
@stage
def replies_repair(name: str, retry_failed: bool) -> None:
    """Move damaged lines of NAME's journal aside, so that only what they held is asked again."""
    from medslm.teacher.sharing import repair

    done = repair(_journal(name), retry_failed=retry_failed)
    moved = f"{done.moved} damaged lines moved to {done.aside}" if done.aside else "nothing damaged"
    forgotten = f", {done.forgotten} failed replies will be asked again" if retry_failed else ""
    click.echo(f"{name}: {moved}{forgotten}")


def _journal(name: str) -> Path:
    """Return the folder of a teacher's replies; a name is a folder name and never a path."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ParamsError(f"{name!r} is no teacher's name: letters, digits, _ and - only")
    return work_dir() / "replies" / name


if __name__ == "__main__":
    main()
