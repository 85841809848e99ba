"""The ledger: bring MLflow into line with dvc.lock, and say which run belongs to which variant.

MLflow is a mirror here. DVC's files are the truth, a run's identity is the fingerprint of its
variant in dvc.lock, and so bringing it up to date twice, after a restored stage, or into an empty
database gives the same picture again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from medslm.errors import DataError, ParamsError
from medslm.params import Section
from medslm.tracking import cell_runs, lockfile, record
from medslm.tracking.lockfile import Lock
from medslm.tracking.record import Input, Record
from medslm.tracking.registry import Version
from medslm.tracking.store import Store, close_stale_runs, delete_ghosts, finished_run, log_run

# Names go into paths under mlruns/ and into registry addresses, where "/", ":" and "@" mean
# something.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"

_SPLIT = Path("data/split")
_MODELS = Path("models")

log = logging.getLogger(__name__)


class TrackParams(Section):
    """Knobs of the `track` stage; params.yaml says what each one does."""

    experiment: str = Field(pattern=_NAME, max_length=100)
    registered_model: str = Field(pattern=_NAME, max_length=100)
    live: bool


@dataclass(frozen=True)
class Tracked:
    """The run of a variant, and whether it was there before."""

    run_id: str
    fingerprint: str
    reused: bool


@dataclass(frozen=True)
class Files:
    """Where results lie, from the project's root; dvc.lock knows them by these paths."""

    root: Path
    lock: Path
    params: Path
    scores: Path
    curves: Path

    def text(self, path: Path) -> str:
        """Return a file's text with passwords in URLs masked."""
        return record.without_credentials((self.root / path).read_text(encoding="utf-8"))


OWN = "own"  # database: stage `runs` may then look for what is lost


def records(files: Files, params: Mapping[str, Any], baselines: Sequence[str]) -> list[Record]:
    """Return what is to be logged for every variant and baseline, all checked before any is logged.

    ``baselines`` are all lines above the variants, a teacher's own answers among them.
    Raises Diverged for a metric that is not finite, IntegrityError for a result that is not the one
    in dvc.lock, DataError for one that was never made.
    """
    lock = lockfile.read_lock(files.root / files.lock, params)
    clash = sorted(set(params["variants"]) & set(baselines))
    if clash:
        raise ParamsError(
            f"params.yaml: {', '.join(clash)} is both a variant and a baseline; rename one"
        )
    texts = {"dvc.lock": files.text(files.lock), "params.yaml": files.text(files.params)}
    found = [_variant(files, lock, params, texts, name) for name in params["variants"]]
    return found + [_baseline(files, lock, params, texts, name) for name in baselines]


def track(store: Store, found: Sequence[Record]) -> dict[str, Tracked]:
    """Make sure each record has exactly one finished run, and each of its cells one under it.

    A record that has one is not logged again; the run of a cell that was shown live is taken over.
    """
    closed = close_stale_runs(store)
    if closed:
        log.info("closed %d run(s) that a killed process had left open", closed)
    tracked = {}
    for item in found:
        run_id = finished_run(store, item.fingerprint)
        reused = run_id is not None
        run_id = run_id or log_run(store, item)
        delete_ghosts(store, item.fingerprint, run_id)
        tracked[item.name] = Tracked(run_id, item.fingerprint, reused)
        cell_runs.adopt(store, run_id, item.cells)
    return tracked


def summary(
    experiment: str, tracked: Mapping[str, Tracked], *, chosen: str, version: Version, own: bool
) -> dict[str, Any]:
    """Return what reports/mlflow_runs.json says: no clock, so that equal work is equal bytes.

    ``own`` says that the runs are in the project's own database and not on a server.
    """
    return {
        "experiment": experiment,
        "store": OWN if own else "server",
        "runs": {
            name: {"run_id": run.run_id, "fingerprint": run.fingerprint}
            for name, run in tracked.items()
        },
        "chosen": {
            "variant": chosen,
            "model": version.name,
            "version": version.version,
            "fingerprint": tracked[chosen].fingerprint,
        },
    }


def dev_digest(lock: Lock) -> str:
    """Return what identifies the dev questions: scores on others cannot be compared."""
    return _digest(lock, _SPLIT / "dev.jsonl")


def _variant(
    files: Files, lock: Lock, params: Mapping[str, Any], texts: Mapping[str, str], name: str
) -> Record:
    score, curve = files.scores / f"{name}.json", files.curves / f"{name}.csv"
    mix = Path("data/mix") / f"{name}.jsonl"
    own = lockfile.variant_fingerprint(lock, name)
    metrics, points = record.read_metrics(files.root / score), record.read_curve(files.root / curve)
    lockfile.require_as_locked(lock, files.root, [score.as_posix(), curve.as_posix()])
    return Record(
        name=name,
        kind="variant",
        fingerprint=own,
        params=record.variant_params(params, name),
        metrics=metrics,
        curve=points,
        cells=record.read_cells(files.root / _MODELS / name / "card.json", name, points),
        inputs=(
            Input(f"mix-{name}", mix.as_posix(), _digest(lock, mix), "train"),
            *_held_out(lock),
        ),
        texts=texts,
    )


def _baseline(
    files: Files, lock: Lock, params: Mapping[str, Any], texts: Mapping[str, str], name: str
) -> Record:
    score = files.scores / f"{name}.json"
    own = lockfile.baseline_fingerprint(lock, name, score.as_posix())
    metrics = record.read_metrics(files.root / score)
    lockfile.require_as_locked(lock, files.root, [score.as_posix()])
    return Record(
        name=name,
        kind="baseline",
        fingerprint=own,
        params=record.baseline_params(params, name),
        metrics=metrics,
        curve=(),
        inputs=_held_out(lock),
        texts=texts,
    )


def _held_out(lock: Lock) -> tuple[Input, ...]:
    return tuple(
        Input(name, path.as_posix(), _digest(lock, path), name)
        for name in ("dev", "test")
        for path in [_SPLIT / f"{name}.jsonl"]
    )


def _digest(lock: Lock, path: Path) -> str:
    found = lockfile.md5_in_lock(lock, path.as_posix())
    if not found:
        raise DataError(f"dvc.lock: no stage reads or makes {path.as_posix()}; run `dvc repro`")
    return found
