"""Share, check and repair the paid replies of a teacher."""

from __future__ import annotations

import re
from pathlib import Path

import click

from medslm.errors import ParamsError, stage, work_dir


@click.group()
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
