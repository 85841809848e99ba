"""Compare `ask` with two other systems on one server and print the table: see benchmarks/README.md."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import click

from benchmarks.clients import Client, Ours, curator, designer
from benchmarks.rows import Bench, Result
from benchmarks.table import ROWS, Found, markdown
from benchmarks.watch import Server

_NAMES = ("medslm", "curator", "DataDesigner")


@click.command()
@click.option(
    "--peers",
    type=click.Path(path_type=Path),
    help="The folder with the virtual environments `curator` and `designer`; without it only ours.",
)
@click.option("--rows", "keys", default=",".join(ROWS), show_default=True, help="Which rows.")
@click.option("--clients", "names", default=",".join(_NAMES), show_default=True)
@click.option("--repeats", type=int, default=1, show_default=True)
@click.option("--limit-s", type=float, default=300.0, show_default=True, help="Of one process.")
@click.option("--shrink", type=int, default=1, help="Divide all counts, for a quick look.")
@click.option("--log", type=click.Path(path_type=Path), help="Append every result as a JSON line.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the scratch projects here.")
def main(
    peers: Path | None,
    keys: str,
    names: str,
    repeats: int,
    limit_s: float,
    shrink: int,
    log: Path | None,
    keep: Path | None,
) -> None:
    """Run the rows, every client of a row one after another, and print a Markdown table."""
    clients = {client.name: client for client in _clients(peers)}
    results: dict[str, dict[str, Found]] = {key: {} for key in keys.split(",")}
    with tempfile.TemporaryDirectory(prefix="medslm-bench-") as scratch, Server() as server:
        bench = Bench(server, limit_s, shrink)
        # Repeats go round the clients, so that a slow minute of the machine hits them all.
        for repeat in range(repeats):
            for key in results:
                for name in names.split(","):
                    home = (keep or Path(scratch)) / f"{key}-{name}-{repeat}"
                    found = _once(bench, key, name, clients.get(name), home)
                    if isinstance(found, str):
                        results[key][name] = found
                        continue
                    before = results[key].get(name)
                    results[key][name] = [*(before if isinstance(before, list) else []), found]
                    _record(log, {"row": key, "client": name, "repeat": repeat, **found})
                    if keep is None:
                        shutil.rmtree(home)
    click.echo(markdown(results, names.split(",")))


def _clients(peers: Path | None) -> list[Client]:
    found: list[Client] = [Ours()]
    if peers is not None:
        # Not resolved: a virtual environment's python is a link whose own place counts.
        found += [curator(peers.absolute()), designer(peers.absolute())]
    return found


def _once(bench: Bench, key: str, name: str, client: Client | None, home: Path) -> Result | str:
    row = ROWS[key]
    if client is None:
        return "not run: no --peers"
    if name != Ours.name and row.ours_only:
        return "not run"
    if row.told and not client.has_rate:
        return "has no such setting"
    started = time.monotonic()
    found = row.measure(bench, client, home)
    click.echo(
        f"{key}, {name}: {row.cell([found])}, {time.monotonic() - started:.0f} s, "
        f"{found['others']:.1f} cores busy elsewhere",
        err=True,
    )
    return found


def _record(log: Path | None, result: Result) -> None:
    if log is not None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
