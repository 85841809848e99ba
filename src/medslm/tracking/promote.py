"""Promotion and its undoing: the only code that moves the champion, and only for results that are in git."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medslm.errors import DataError, IntegrityError, NotPromotable
from medslm.evaluation.compare import CompareParams
from medslm.files import lock, read_json
from medslm.params import load_section
from medslm.tracking import lockfile, registry
from medslm.tracking.ledger import TrackParams
from medslm.tracking.record import read_metrics
from medslm.tracking.registry import CHAMPION, PREVIOUS, Version
from medslm.tracking.store import FINGERPRINT, Store, opened

_BASELINE = "majority"
_METRIC = "metric."
_TRACK_AGAIN = "run `dvc repro --force --single-item track`, commit and try again"


@dataclass(frozen=True)
class Promotion:
    """What the champion is now. ``moved`` is False if it was the champion before."""

    model: str
    version: str
    previous: str | None
    metric: str
    value: float
    beaten: float | None
    moved: bool

    def __str__(self) -> str:
        """Say it in one line, for a terminal."""
        if not self.moved:
            return f"{self.model} version {self.version} is the champion already"
        beat = "" if self.beaten is None else f" (before: {self.beaten:.4g})"
        took = "" if self.previous is None else f"; version {self.previous} is kept as previous"
        return f"{self.model} version {self.version} is champion: {self.metric} {self.value:.4g}{beat}{took}"


@dataclass(frozen=True)
class Rollback:
    """What the champion is now, and the version it took over from."""

    model: str
    version: str
    previous: str

    def __str__(self) -> str:
        """Say it in one line, for a terminal."""
        return f"{self.model} version {self.version} is champion again; version {self.previous} is kept"


@dataclass(frozen=True)
class _Candidate:
    variant: str
    model: str
    version: str
    fingerprint: str
    commit: str
    metrics: Mapping[str, float]
    compared_by: str
    baseline: float | None


def promote(root: Path, *, force_reason: str | None = None) -> Promotion:
    """Make the chosen model of the commit at ``root`` the champion.

    Raises NotPromotable unless the git tree is clean, the pipeline is up to date, the gate passed,
    the registered version is whole and was made from this very dvc.lock, and it beats the champion
    on ``compare.metric`` (the first champion: the majority baseline) on the same dev questions.
    ``force_reason`` overrides only that last comparison, and is kept in the version's tag
    ``promote.forced``. Raises TrackingDown if the registry cannot be reached, LockHeld if another
    promotion is under way here.
    """
    candidate = _candidate(root)
    _require_clean_pipeline(root)
    with _registry(root) as store:
        registry.finish_move(store, candidate.model)
        version = _require_own_version(store, candidate)
        champion = registry.alias(store, candidate.model, CHAMPION)
        value = candidate.metrics[candidate.compared_by]
        if champion == version.version:
            previous = registry.alias(store, candidate.model, PREVIOUS)
            return Promotion(
                candidate.model, champion, previous, candidate.compared_by, value, None, moved=False
            )
        beaten = _value_to_beat(store, candidate, version, champion, force_reason)
        _tag(store, candidate, force_reason)
        if registry.alias(store, candidate.model, CHAMPION) != champion:
            raise NotPromotable(
                f"{candidate.model}: the champion changed meanwhile; look at it and try again"
            )
        registry.move_aliases(
            store, candidate.model, champion=version.version, previous=champion, why="promote"
        )
        return Promotion(
            candidate.model,
            version.version,
            champion,
            candidate.compared_by,
            value,
            beaten,
            moved=True,
        )


def rollback(root: Path) -> Rollback:
    """Make the previous champion the champion again, and the present one the previous.

    Raises NotPromotable if there is no previous champion or its package is no longer whole.
    """
    name = load_section(root / "params.yaml", "track", TrackParams).registered_model
    with _registry(root) as store:
        if registry.finish_move(store, name) == "rollback":
            return _standing(store, name)
        champion, previous = (registry.alias(store, name, a) for a in (CHAMPION, PREVIOUS))
        if champion is None or previous is None or champion == previous:
            raise NotPromotable(
                f"{name}: there is no previous champion to go back to; promote one instead"
            )
        _require_whole(store, registry.version(store, name, previous))
        registry.move_aliases(store, name, champion=previous, previous=champion, why="rollback")
        return Rollback(name, previous, champion)


def _candidate(root: Path) -> _Candidate:
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
            f"this commit chose {chosen} of {model}; {_TRACK_AGAIN}"
        )
    in_lock = lockfile.read_lock(root / "dvc.lock")
    if lockfile.fingerprint(in_lock, lockfile.variant_stages(in_lock, variant)) != fingerprint:
        raise NotPromotable(
            f"{variant} in dvc.lock is not the one that was tracked; {_TRACK_AGAIN}"
        )
    _require_gate(root / "metrics/gate.json")
    score = root / "metrics/score"
    metrics = read_metrics(score / f"{variant}.json")
    if metric not in metrics:
        raise NotPromotable(
            f"{score / variant}.json: has no {metric}; choose another compare.metric"
        )
    baseline = score / f"{_BASELINE}.json"
    return _Candidate(
        variant=variant,
        model=model,
        version=tracked["version"],
        fingerprint=fingerprint,
        commit=commit,
        metrics=metrics,
        compared_by=metric,
        baseline=read_metrics(baseline).get(metric) if baseline.exists() else None,
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


def _require_clean_pipeline(root: Path) -> None:
    said = _run(root, sys.executable, "-m", "dvc", "status", "--json")
    try:
        stale = json.loads(said)
    except ValueError as exc:
        raise NotPromotable(f"`dvc status` did not answer in JSON: {said[:200]!r}") from exc
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
        raise DataError(f"{path}: not a report of the track stage; {_TRACK_AGAIN}")
    return {name: chosen[name] for name in names}


def _require_gate(path: Path) -> None:
    if not path.exists():
        raise NotPromotable("metrics/gate.json is missing: the gate never ran; run `dvc repro`")
    body = read_json(path)
    if not isinstance(body, dict) or body.get("passed") is not True:
        raise NotPromotable(
            "the quality gate did not pass (metrics/gate.json); repair the data first"
        )


def _require_own_version(store: Store, candidate: _Candidate) -> Version:
    """Return the candidate's version, whole and made from this dvc.lock."""
    found = registry.version(store, candidate.model, candidate.version)
    if found.tags.get(FINGERPRINT) != candidate.fingerprint:
        raise NotPromotable(
            f"{candidate.model} version {candidate.version} was made from another dvc.lock; {_TRACK_AGAIN}"
        )
    _require_whole(store, found)
    return found


def _require_whole(store: Store, found: Version) -> None:
    try:
        registry.require_whole(store, found)
    except IntegrityError as exc:
        raise NotPromotable(str(exc)) from exc


def _value_to_beat(
    store: Store,
    candidate: _Candidate,
    version: Version,
    champion: str | None,
    force_reason: str | None,
) -> float | None:
    """Return the score the candidate beats; NotPromotable if it does not and nobody forces it."""
    metric, value = candidate.compared_by, candidate.metrics[candidate.compared_by]
    if champion is None:
        name, score = f"the {_BASELINE} baseline", candidate.baseline
        same_questions = True
    else:
        tags = registry.version(store, candidate.model, champion).tags
        name, score = f"champion version {champion}", _finite(tags.get(_METRIC + metric))
        same_questions = tags.get(registry.DEV_DIGEST) == version.tags.get(registry.DEV_DIGEST)
    if force_reason is not None:
        return score
    if score is None or not same_questions:
        why = "was measured on other dev questions" if score is not None else f"has no {metric}"
        raise NotPromotable(
            f"{name} {why}, so no gain can be shown; promote by force with a reason"
        )
    # of the metrics to compare by, only the negative log-likelihood is better when lower
    gain = score - value if metric.endswith(".nll") else value - score
    if not gain > 0:
        raise NotPromotable(
            f"{candidate.variant} has {metric} {value:.6g}, {name} has {score:.6g}: no gain; "
            "train a better one or promote by force with a reason"
        )
    return score


def _tag(store: Store, candidate: _Candidate, force_reason: str | None) -> None:
    """Write down what was promoted and why, before any alias moves."""
    tags = {"git.commit": candidate.commit}
    tags |= {
        _METRIC + key: repr(value)
        for key, value in candidate.metrics.items()
        if key.startswith(("dev.", "test."))
    }
    if force_reason is not None:
        tags["promote.forced"] = force_reason
    for key, value in tags.items():
        store.client.set_model_version_tag(candidate.model, candidate.version, key, value)


def _standing(store: Store, name: str) -> Rollback:
    champion, previous = (registry.alias(store, name, a) for a in (CHAMPION, PREVIOUS))
    return Rollback(name, str(champion), str(previous))


def _finite(text: str | None) -> float | None:
    value = math.nan if text is None else float(text)
    return value if math.isfinite(value) else None


@contextlib.contextmanager
def _registry(root: Path) -> Iterator[Store]:
    """Open the store under the project's promotion lock: MLflow's aliases go to the last writer."""
    experiment = load_section(root / "params.yaml", "track", TrackParams).experiment
    with lock(root / ".work" / "promote.lock", "promotion"), opened(root, experiment) as store:
        yield store


def _run(root: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise NotPromotable(f"{command[0]} is not installed; promotion needs git and DVC") from exc
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:200]
        raise NotPromotable(f"`{' '.join(command[-3:])}` failed in {root}: {said}")
    return done.stdout
