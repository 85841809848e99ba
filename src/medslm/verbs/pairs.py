"""Look at the generated pairs, decide on them, and hand them on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from medslm.errors import stage


@click.command()
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


@click.command()
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


@click.command("data-docs")
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
