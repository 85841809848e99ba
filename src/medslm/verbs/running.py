"""Run the pipeline, set its knobs from a profile, and say before a run what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import click

from medslm.errors import ParamsError, stage, work_dir


@click.command()
@click.argument("targets", nargs=-1)
def run(targets: tuple[str, ...]) -> None:
    """Run `dvc repro` on TARGETS (default: all) and exit with the failing stage's own code.

    DVC turns every failure into 255; the codes are listed in docs/errors.md.
    """
    status = work_dir() / "status.json"
    status.unlink(missing_ok=True)
    command = ["dvc", "repro", *targets]
    code = subprocess.run(command, env=dvc_environment(), check=False).returncode
    if code and status.exists():
        code = int(json.loads(status.read_text(encoding="utf-8"))["exit_code"])
    sys.exit(code)


def dvc_environment() -> dict[str, str]:
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


@click.command()
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


@click.command()
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
