"""Promotion and its undoing: the only code that moves the champion, and only for results that are in git."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from medslm.data.records import Prediction, Question
from medslm.errors import IntegrityError, NotPromotable
from medslm.files import lock, read_jsonl
from medslm.params import load_section
from medslm.tracking import registry, trial
from medslm.tracking.adapters import PREDICTIONS
from medslm.tracking.claims import BASELINE, TRACK_AGAIN, Claim, claimed, require_clean_pipeline
from medslm.tracking.gains import Gained, Paired, on_dev
from medslm.tracking.ledger import TrackParams
from medslm.tracking.registry import CHAMPION, MANIFEST_SHA256, PREVIOUS, Version
from medslm.tracking.registry_lock import held
from medslm.tracking.store import FINGERPRINT, Store, opened

_METRIC = "metric."
_GAIN = "promote.gain"


@dataclass(frozen=True)
class Promotion:
    """What the champion is now. ``moved`` is False if it was the champion before."""

    model: str
    version: str
    previous: str | None
    metric: str
    value: float
    beaten: float | None
    gain: Gained | None
    moved: bool

    def __str__(self) -> str:
        """Say it in one line, for a terminal."""
        if not self.moved:
            return f"{self.model} version {self.version} is the champion already"
        beat = "" if self.beaten is None else f" (before: {self.beaten:.4g})"
        sure = "" if self.gain is None else f", gain {self.gain}"
        took = "" if self.previous is None else f"; version {self.previous} is kept as previous"
        said = f"{self.metric} {self.value:.4g}{beat}{sure}{took}"
        return f"{self.model} version {self.version} is champion: {said}"


@dataclass(frozen=True)
class Rollback:
    """What the champion is now, and the version it took over from."""

    model: str
    version: str
    previous: str

    def __str__(self) -> str:
        """Say it in one line, for a terminal."""
        return f"{self.model} version {self.version} is champion again; version {self.previous} is kept"


def promote(root: Path, *, force_reason: str | None = None, paired: Paired = on_dev) -> Promotion:
    """Make the chosen model of the commit at ``root`` the champion.

    Raises NotPromotable unless the git tree is clean, the pipeline is up to date, the gate passed,
    every held-out question was scored, the registered version is whole, was made from this very
    dvc.lock and answers as it was scored, and it beats the champion on ``compare.metric`` (the first
    champion: the majority baseline) on the same dev questions. ``force_reason`` overrides only that
    last comparison, and is kept in the version's tag ``promote.forced``. The interval of the gain,
    by ``paired``, is shown and kept, not asked for: a dev fold of 50 shows little. Raises
    TrackingDown if the registry cannot be reached, LockHeld if another promotion is under way here.
    """
    claim = claimed(root)
    require_clean_pipeline(root)
    with _registry(root, claim.model) as store:
        registry.finish_move(store, claim.model)
        version = _own_version(store, claim)
        champion = registry.alias(store, claim.model, CHAMPION)
        moved = champion != version.version
        beaten: float | None = None
        gain: Gained | None = None
        if moved:
            beaten, gain = _judge(root, store, claim, version, champion, force_reason, paired)
            _tag(store, claim, gain, force_reason)
            _crown(store, version, champion)
        return Promotion(
            model=claim.model,
            version=version.version,
            previous=champion if moved else registry.alias(store, claim.model, PREVIOUS),
            metric=claim.compared_by,
            value=claim.metrics[claim.compared_by],
            beaten=beaten,
            gain=gain,
            moved=moved,
        )


def rollback(root: Path) -> Rollback:
    """Make the previous champion the champion again, and the present one the previous.

    Raises NotPromotable if there is no previous champion or its package is no longer whole.
    """
    name = load_section(root / "params.yaml", "track", TrackParams).registered_model
    with _registry(root, name) as store:
        if registry.finish_move(store, name) == "rollback":
            return _standing(store, name)
        champion, previous = (registry.alias(store, name, a) for a in (CHAMPION, PREVIOUS))
        if champion is None or previous is None or champion == previous:
            raise NotPromotable(
                f"{name}: there is no previous champion to go back to; promote one instead"
            )
        with tempfile.TemporaryDirectory() as folder:
            _whole(store, registry.version(store, name, previous), Path(folder))
        registry.move_aliases(store, name, champion=previous, previous=champion, why="rollback")
        return Rollback(name, previous, champion)


class _Rival(NamedTuple):
    """What a candidate has to beat: its name, its score, the dev questions it is of, its answers."""

    name: str
    score: float | None
    dev_digest: str | None
    predictions: Path


def _judge(
    root: Path,
    store: Store,
    claim: Claim,
    version: Version,
    champion: str | None,
    force_reason: str | None,
    paired: Paired,
) -> tuple[float | None, Gained | None]:
    """Return the score to beat and the gain over it; NotPromotable if the version fails a gate."""
    with tempfile.TemporaryDirectory() as folder:
        package = _whole(store, version, Path(folder) / "ours")
        rival = _rival(root, store, claim, champion, Path(folder) / "theirs")
        _require_gain(claim, version, rival, force_reason)
        test = read_jsonl(root / "data/split/test.jsonl", Question)
        trial.stand(package, version.tags[MANIFEST_SHA256], test)
        return rival.score, _interval(root, claim, package, rival, paired)


def _crown(store: Store, version: Version, champion: str | None) -> None:
    """Move the aliases, if the champion is still the one that was beaten."""
    if registry.alias(store, version.name, CHAMPION) != champion:
        raise NotPromotable(
            f"{version.name}: the champion changed meanwhile; look at it and try again"
        )
    registry.move_aliases(
        store, version.name, champion=version.version, previous=champion, why="promote"
    )


def _own_version(store: Store, claim: Claim) -> Version:
    """Return the claim's version, made from this dvc.lock."""
    found = registry.version(store, claim.model, claim.version)
    if found.tags.get(FINGERPRINT) != claim.fingerprint:
        raise NotPromotable(
            f"{claim.model} version {claim.version} was made from another dvc.lock; {TRACK_AGAIN}"
        )
    return found


def _whole(store: Store, found: Version, out: Path) -> Path:
    """Return the folder of a version's package, every byte as registered."""
    try:
        return registry.fetch(store, found, out)
    except IntegrityError as exc:
        raise NotPromotable(str(exc)) from exc


def _rival(root: Path, store: Store, claim: Claim, champion: str | None, out: Path) -> _Rival:
    """Return the champion, or the majority baseline where there is none."""
    if champion is None:
        predictions = root / f"data/predictions/{BASELINE}.jsonl"
        return _Rival(f"the {BASELINE} baseline", claim.baseline, None, predictions)
    found = registry.version(store, claim.model, champion)
    name, score = (
        f"champion version {champion}",
        _finite(found.tags.get(_METRIC + claim.compared_by)),
    )
    try:
        package = registry.fetch(store, found, out)
    except IntegrityError:  # a champion that is damaged can be replaced
        package = out
    return _Rival(name, score, found.tags.get(registry.DEV_DIGEST), package / PREDICTIONS)


def _require_gain(claim: Claim, version: Version, rival: _Rival, force_reason: str | None) -> None:
    """Raise NotPromotable unless the claim beats its rival or somebody forces it."""
    metric, value = claim.compared_by, claim.metrics[claim.compared_by]
    others = rival.dev_digest not in (None, version.tags.get(registry.DEV_DIGEST))
    if force_reason is not None:
        return
    if rival.score is None or others:
        why = (
            "was measured on other dev questions" if rival.score is not None else f"has no {metric}"
        )
        raise NotPromotable(
            f"{rival.name} {why}, so no gain can be shown; promote by force with a reason"
        )
    # of the metrics to compare by, only the negative log-likelihood is better when lower
    gain = rival.score - value if metric.endswith(".nll") else value - rival.score
    if not gain > 0:
        raise NotPromotable(
            f"{claim.variant} has {metric} {value:.6g}, {rival.name} has {rival.score:.6g}: no gain; "
            "train a better one or promote by force with a reason"
        )


def _interval(
    root: Path, claim: Claim, package: Path, rival: _Rival, paired: Paired
) -> Gained | None:
    """Return the gain on the dev questions with its interval, if both models' answers are there."""
    if not rival.predictions.is_file():
        return None
    ours, theirs = (
        read_jsonl(path, Prediction) for path in (package / PREDICTIONS, rival.predictions)
    )
    dev = read_jsonl(root / "data/split/dev.jsonl", Question)
    gold = {q.pmid: q.answer for q in dev if q.answer is not None}
    asked = [{row.pmid for row in rows if row.split == "dev"} for rows in (ours, theirs)]
    if asked != [set(gold)] * 2:
        return None  # other dev questions: only by force
    return paired(ours, theirs, gold, claim.compared_by)


def _tag(store: Store, claim: Claim, gain: Gained | None, force_reason: str | None) -> None:
    """Write down what was promoted and why, before any alias moves."""
    tags = {"git.commit": claim.commit}
    tags |= {
        _METRIC + key: repr(value)
        for key, value in claim.metrics.items()
        if key.startswith(("dev.", "test."))
    }
    if gain is not None:
        tags[_GAIN] = str(gain)
    if force_reason is not None:
        tags["promote.forced"] = force_reason
    for key, value in tags.items():
        store.client.set_model_version_tag(claim.model, claim.version, key, value)


def _standing(store: Store, name: str) -> Rollback:
    champion, previous = (registry.alias(store, name, a) for a in (CHAMPION, PREVIOUS))
    return Rollback(name, str(champion), str(previous))


def _finite(text: str | None) -> float | None:
    value = math.nan if text is None else float(text)
    return value if math.isfinite(value) else None


@contextlib.contextmanager
def _registry(root: Path, model: str) -> Iterator[Store]:
    """Open the store under this project's lock and the registry's: MLflow's aliases go to the last writer."""
    experiment = load_section(root / "params.yaml", "track", TrackParams).experiment
    with (
        lock(root / ".work" / "promote.lock", "promotion"),
        opened(root, experiment) as store,
        held(store, model),
    ):
        yield store
