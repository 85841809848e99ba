"""Runs of earlier commits, from what git holds of them: nothing is checked out, nothing computed."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medslm.errors import DataError, MedslmError, ParamsError
from medslm.evaluation.compare import CompareParams, lines_above
from medslm.params import load_section, load_value
from medslm.tracking.ledger import Files, records, track
from medslm.tracking.record import SECTIONS, Record
from medslm.tracking.store import Store

COMMIT = "git.commit"

# What a record is made of. The cards of models are in DVC's cache: without them, cells have no runs.
_PATHS = ("dvc.lock", "params.yaml", "metrics")


class Filled(NamedTuple):
    """What one commit brought: runs logged now and runs that were there, or why it was left out."""

    commit: str
    logged: int
    reused: int
    left_out: str | None


def backfill(store: Store, root: Path, revision: str) -> Iterator[Filled]:
    """Log the runs of every commit up to ``revision`` that changed dvc.lock, the oldest first.

    A run that is there is not logged again. Each is tagged with the first commit that holds it. A
    commit whose results are not whole, or of an older form, is left out with the reason.
    """
    for commit in commits(root, revision):
        try:
            found = records_at(root, commit)
        except MedslmError as exc:
            yield Filled(commit, 0, 0, str(exc))
            continue
        tracked = track(store, found)
        for run in tracked.values():
            if COMMIT not in store.client.get_run(run.run_id).data.tags:
                store.client.set_tag(run.run_id, COMMIT, commit)
        reused = sum(run.reused for run in tracked.values())
        yield Filled(commit, len(tracked) - reused, reused, None)


def commits(root: Path, revision: str) -> list[str]:
    """Return the commits up to ``revision`` that changed dvc.lock, the oldest first."""
    said = _git(
        root, "log", "--format=%H", "--reverse", "--end-of-options", revision, "--", "dvc.lock"
    )
    return said.decode().split()


def records_at(root: Path, commit: str) -> list[Record]:
    """Return the records of a commit, from its params, its dvc.lock and its metrics alone."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        with tarfile.open(fileobj=io.BytesIO(_archive(root, commit))) as archive:
            archive.extractall(there, filter="data")
        params = there / "params.yaml"
        try:
            sections = {name: load_value(params, name) for name in SECTIONS}
            compared = load_section(params, "compare", CompareParams)
        except ParamsError as exc:
            raise ParamsError(str(exc).replace(folder, commit[:7])) from None
        files = Files(
            root=there,
            lock=Path("dvc.lock"),
            params=Path("params.yaml"),
            scores=Path("metrics/score"),
            curves=Path("metrics/train"),
        )
        try:
            return records(files, sections, lines_above(compared.baselines, sections["answers"]))
        except MedslmError as exc:
            raise type(exc)(str(exc).replace(folder, commit[:7])) from None


def _archive(root: Path, commit: str) -> bytes:
    there = _git(root, "ls-tree", "--name-only", commit, *_PATHS).decode().split()
    if not there:  # git would take all files then
        raise DataError(f"{commit[:7]}: holds none of {', '.join(_PATHS)}")
    return _git(root, "archive", "--format=tar", commit, *there)


def _git(root: Path, *words: str) -> bytes:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        ["git", *words], cwd=root, capture_output=True, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise DataError(f"git {words[0]} failed: {said}; name a commit of this repository")
    return done.stdout
