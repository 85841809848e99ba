"""What the commit at hand claims of its chosen model, from its files alone, and whether they agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medslm.data.records import Question
from medslm.errors import DataError, NotPromotable
from medslm.evaluation.compare import CompareParams
from medslm.files import read_json, read_jsonl
from medslm.params import load_section
from medslm.tracking import lockfile
from medslm.tracking.ledger import TrackParams
from medslm.tracking.record import read_metrics

BASELINE = "majority"
TRACK_AGAIN = "run `dvc repro --force --single-item track`, commit and try again"
_SPLITS = ("dev", "test")


@dataclass(frozen=True)
class Claim:
    """The chosen variant, its registered version, and the scores it is to be judged by."""

    variant: str
    model: str
    version: str
    fingerprint: str
    commit: str
    metrics: Mapping[str, float]
    compared_by: str
    baseline: float | None


def claimed(root: Path) -> Claim:
    """Collect what the commit at ``root`` claims, from files alone; NotPromotable if they disagree."""
    commit = _require_clean_tree(root)
    tracked = _tracked(root / "reports/mlflow_runs.json")
    metric = load_section(root / "params.yaml", "compare", CompareParams).metric
    model = load_section(root / "params.yaml", "track", TrackParams).registered_model
    variant, fingerprint = tracked["variant"], tracked["fingerprint"]
    chosen = read_json(root / "metrics/compare.json")["chosen"]
    if chosen != variant or tracked["model"] != model:
        raise NotPromotable(
            f"reports/mlflow_runs.json is about {variant} of {tracked['model']}, "
            f"this commit chose {chosen} of {model}; {TRACK_AGAIN}"
        )
    in_lock = lockfile.read_lock(root / "dvc.lock", lockfile.entries_of(root / "params.yaml"))
    if lockfile.variant_fingerprint(in_lock, variant) != fingerprint:
        raise NotPromotable(f"{variant} in dvc.lock is not the one that was tracked; {TRACK_AGAIN}")
    _require_gate(root / "metrics/gate.json")
    score = root / "metrics/score"
    metrics = read_metrics(score / f"{variant}.json")
    if metric not in metrics:
        raise NotPromotable(
            f"{score / variant}.json: has no {metric}; choose another compare.metric"
        )
    _require_complete(root, variant, metrics)
    baseline = score / f"{BASELINE}.json"
    return Claim(
        variant=variant,
        model=model,
        version=tracked["version"],
        fingerprint=fingerprint,
        commit=commit,
        metrics=metrics,
        compared_by=metric,
        baseline=read_metrics(baseline).get(metric) if baseline.exists() else None,
    )


def _require_complete(root: Path, variant: str, metrics: Mapping[str, float]) -> None:
    """Raise NotPromotable unless the scores are of every held-out question, each of them answered."""
    for split in _SPLITS:
        asked = len(read_jsonl(root / f"data/split/{split}.jsonl", Question))
        scored, silent = metrics.get(f"{split}.n", 0), metrics.get(f"{split}.unanswered", 0)
        if scored != asked or silent:
            raise NotPromotable(
                f"metrics/score/{variant}.json: {split}: {scored:g} of {asked} questions scored, "
                f"{silent:g} unanswered; a model is promoted on all of them: run `dvc repro`"
            )


def _require_clean_tree(root: Path) -> str:
    """Return the commit at ``root``; NotPromotable if a file differs from it."""
    changed = _run(root, "git", "status", "--porcelain").splitlines()
    if changed:
        shown = ", ".join(line[3:] for line in changed[:5])
        raise NotPromotable(
            f"{len(changed)} file(s) are not committed ({shown}); commit or undo them first"
        )
    return _run(root, "git", "rev-parse", "HEAD").strip()


def require_clean_pipeline(root: Path) -> None:
    """Raise NotPromotable naming the stages that DVC would run."""
    said = _run(root, sys.executable, "-m", "dvc", "status", "--json")
    try:
        stale = json.loads(said)
    except ValueError as exc:
        raise NotPromotable(f"`dvc status` did not answer in JSON: {said[:200]!r}") from exc
    if stale.get("runs") == ["always changed"]:
        del stale["runs"]  # it runs every time by design and makes nothing that a model rests on
    if stale:
        shown = ", ".join(sorted(stale)[:5])
        raise NotPromotable(
            f"{len(stale)} stage(s) are out of date ({shown}); run `dvc repro` and commit"
        )


def _tracked(path: Path) -> dict[str, str]:
    """Return what the track stage wrote about the chosen variant."""
    body = read_json(path)
    chosen = body.get("chosen") if isinstance(body, dict) else None
    names = ("variant", "model", "version", "fingerprint")
    if not isinstance(chosen, dict) or not all(isinstance(chosen.get(name), str) for name in names):
        raise DataError(f"{path}: not a report of the track stage; {TRACK_AGAIN}")
    return {name: chosen[name] for name in names}


def _require_gate(path: Path) -> None:
    if not path.exists():
        raise NotPromotable("metrics/gate.json is missing: the gate never ran; run `dvc repro`")
    body = read_json(path)
    if not isinstance(body, dict) or body.get("passed") is not True:
        raise NotPromotable(
            "the quality gate did not pass (metrics/gate.json); repair the data first"
        )


def _run(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise NotPromotable(f"{command[0]} is not installed; promotion needs git and DVC") from exc
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:200]
        raise NotPromotable(f"`{' '.join(command[-3:])}` failed in {root}: {said}")
    return done.stdout
