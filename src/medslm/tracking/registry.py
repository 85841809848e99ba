"""The model registry: a version per fingerprint, aliases that move as one, packages checked before use."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medslm.errors import IntegrityError, NotPromotable
from medslm.tracking import adapters, logged_models, package
from medslm.tracking.adapters import PREDICTIONS
from medslm.tracking.card import card_text, description
from medslm.tracking.package import Candidate
from medslm.tracking.store import FINGERPRINT, Store

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
MANIFEST_SHA256 = "medslm.manifest_sha256"
VARIANT = "medslm.variant"
DEV_DIGEST = "medslm.dev_md5"
# Set while two aliases move; whoever comes next finishes a move that was cut short.
_MOVE = "medslm.alias_move"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """One version of a registered model with its tags."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]


def register(
    store: Store, name: str, candidate: Candidate, *, run_id: str, tags: Mapping[str, str]
) -> Version:
    """Return the version for the fingerprint in ``tags``, made of the candidate if there is none.

    Its alias is ``challenger``. A version appears only after its package arrived whole, and one
    whose package is no longer whole is not reused. Raises NotPromotable if it did not arrive whole.
    """
    found = _whole_version(store, name, tags[FINGERPRINT])
    if found is None:
        cells = len(adapters.cells(candidate.model))
        card = card_text(candidate.record, candidate.student, cells, candidate.warnings)
        logged_models.delete_ghosts(store, tags[FINGERPRINT])
        with tempfile.TemporaryDirectory() as folder:
            digest = package.save(Path(folder), candidate, card)
            made = logged_models.upload(
                store, name, Path(folder) / "model", candidate.record, run_id
            )
        _require_arrived(store, made, digest)
        _require_registered_model(store, name)
        created = store.client.create_model_version(
            name,
            # not "models:/ID": MLflow 3.17 looks that up in its global store, not in this client's
            made.artifact_location,
            run_id=run_id,
            tags={**tags, MANIFEST_SHA256: digest},
            model_id=made.model_id,
            description=description(card),
        )
        found = version(store, name, str(created.version))
    if alias(store, name, CHALLENGER) != found.version:
        store.client.set_registered_model_alias(name, CHALLENGER, found.version)
    return found


def version(store: Store, name: str, number: str) -> Version:
    """Return one version; NotPromotable if the registry does not have it."""
    from mlflow.exceptions import MlflowException

    try:
        found = store.client.get_model_version(name, number)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotPromotable(
            f"the registry has no version {number} of {name}; run `dvc repro --force --single-item track`"
        ) from exc
    return _version(found)


def versions(store: Store, name: str) -> list[Version]:
    """Return all versions of a model, the newest first."""
    found = [_version(v) for v in store.client.search_model_versions(f"name = '{name}'")]
    return sorted(found, key=lambda v: -int(v.version))


def aliases_of(store: Store, found: Version) -> tuple[str, ...]:
    """Return the aliases that point at a version, in a fixed order."""
    aliases = store.client.get_registered_model(found.name).aliases
    return tuple(sorted(name for name, number in aliases.items() if str(number) == found.version))


def run_of(store: Store, run_id: str) -> Any | None:
    """Return the run that a version came out of, None if it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def alias(store: Store, name: str, wanted: str) -> str | None:
    """Return the version an alias points at, or None."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = store.client.get_registered_model(name).aliases
    except MlflowException as exc:
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    found = aliases.get(wanted)
    return None if found is None else str(found)


def fetch(store: Store, found: Version, out: Path) -> Path:
    """Download a version's adapters to ``out`` and return their folder, verified.

    Only medslm's own reader touches them: an ``MLmodel`` file, which may name code to run, is never
    opened. Raises IntegrityError if the package is incomplete, changed or not made by medslm.
    """
    digest = found.tags.get(MANIFEST_SHA256)
    where = f"{found.name} version {found.version}"
    if digest is None:
        raise IntegrityError(f"{where}: was not registered by medslm; it is not loaded")
    location = store.client.get_model_version_download_uri(found.name, found.version)
    return _fetch(store, location, digest, where, out)


def _fetch(store: Store, location: str, digest: str, where: str, out: Path) -> Path:
    import mlflow.artifacts
    import requests
    from mlflow.exceptions import MlflowException

    try:
        folder = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{location}/artifacts/adapters",
            dst_path=str(out),
            tracking_uri=store.uri,
        )
    except (MlflowException, requests.RequestException, OSError) as exc:
        store.client.get_experiment(store.experiment_id)  # raises if it is the store that is gone
        said = " ".join(str(exc).split())[:200]
        raise IntegrityError(
            f"{where}: its adapters cannot be fetched: {said}; register it again"
        ) from exc
    adapters.verify(Path(folder), digest)
    return Path(folder)


def move_aliases(store: Store, name: str, *, champion: str, previous: str | None, why: str) -> None:
    """Point ``champion`` and ``previous`` at these versions; a kill in between leaves a note to finish by.

    Raises NotPromotable if somebody else moved the champion at the same time.
    """
    move = {"champion": champion, "previous": previous, "why": why}
    store.client.set_registered_model_tag(name, _MOVE, json.dumps(move, sort_keys=True))
    finish_move(store, name)
    if (now := alias(store, name, CHAMPION)) != champion:
        raise NotPromotable(
            f"{name}: version {now} was made champion at the same time; look at it and try again"
        )


def finish_move(store: Store, name: str) -> str | None:
    """Finish a move of aliases that was cut short; return why it was made, or None if there was none."""
    from mlflow.exceptions import MlflowException

    try:
        note = store.client.get_registered_model(name).tags.get(_MOVE)
    except MlflowException as exc:
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if note is None:
        return None
    move = json.loads(note)
    if move["previous"] is not None:
        store.client.set_registered_model_alias(name, PREVIOUS, move["previous"])
    store.client.set_registered_model_alias(name, CHAMPION, move["champion"])
    store.client.delete_registered_model_tag(name, _MOVE)
    return str(move["why"])


def _whole_version(store: Store, name: str, fingerprint: str) -> Version | None:
    """Return the newest version with this fingerprint whose package is whole and of today's form, if any."""
    found = store.client.search_model_versions(
        f"name = '{name}' and tags.`{FINGERPRINT}` = '{fingerprint}'"
    )
    for candidate in sorted(map(_version, found), key=lambda v: -int(v.version)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found_package = fetch(store, candidate, Path(folder))
            except IntegrityError as exc:
                log.warning("not reused: %s", exc)
                continue
            if (found_package / PREDICTIONS).is_file():
                return candidate
            log.warning("not reused: version %s has no recorded answers", candidate.version)
    return None


def _require_arrived(store: Store, made: Any, digest: str) -> None:
    """Raise NotPromotable unless the store gives back the package that was sent: MLflow does not look."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _fetch(store, made.artifact_location, digest, f"model {made.model_id}", Path(folder))
        except IntegrityError as exc:
            raise NotPromotable(f"not registered, its package did not arrive whole: {exc}") from exc


def _require_registered_model(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(found: Any) -> Version:
    return Version(found.name, str(found.version), str(found.run_id or ""), dict(found.tags))
