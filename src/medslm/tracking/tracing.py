"""What `medslm lineage` does: tell what a word names, and follow it."""

from __future__ import annotations

import re
from pathlib import Path

from medslm.errors import DataError, ParamsError
from medslm.params import load_section
from medslm.tracking import lineage, registry, sightings
from medslm.tracking.answering import find
from medslm.tracking.ledger import TrackParams
from medslm.tracking.lineage import Origin
from medslm.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS
from medslm.tracking.store import Store, opened, own_database

_RUN = re.compile("[0-9a-f]{32}")
_VERSION = re.compile(r"v\d+")


def trace(root: Path, word: str, *, reproduce: bool) -> str:
    """Return the lineage of a version (v3, champion, ...), a run's id, a pair's id or a PMID.

    Raises DataError for a word that is none of these or names nothing, ParamsError where
    ``reproduce`` is asked of a pair or a study, which are made by the model's commands.
    """
    knobs = load_section(root / "params.yaml", "track", TrackParams)
    named = word in (CHAMPION, CHALLENGER, PREVIOUS) or _VERSION.fullmatch(word)
    if named or _RUN.fullmatch(word):
        with opened(root, knobs.experiment) as store:
            name = knobs.registered_model
            run_id = find(store, name, word).run_id if named else word
            origin = lineage.of_run(store, name, run_id)
            return lineage.text(root, store, origin, reproduce=reproduce)
    if reproduce:
        raise ParamsError(f"{word}: --reproduce is for a version or a run")
    if sightings.is_pair(word):
        return sightings.of_pair(root, word, _registered(root, knobs))
    if re.fullmatch(r"\w+", word, re.ASCII):
        return sightings.of_pmid(root, word, _registered(root, knobs))
    raise DataError(
        f"{word!r}: neither a version (v3, champion), a run, a pair (ask:PMID:0) nor a PMID"
    )


def _registered(root: Path, knobs: TrackParams) -> list[tuple[str, Origin]]:
    """Return every registered version with its origin; none where there is no store yet."""
    own = own_database(root)
    if own is not None and not own.exists():
        return []
    with opened(root, knobs.experiment) as store:
        return [
            (_label(store, version), origin)
            for version in registry.versions(store, knobs.registered_model)
            for origin in [_origin(store, knobs.registered_model, version.run_id)]
            if origin is not None
        ]


def _origin(store: Store, name: str, run_id: str) -> Origin | None:
    try:
        return lineage.of_run(store, name, run_id)
    except DataError:  # its run was deleted
        return None


def _label(store: Store, version: registry.Version) -> str:
    aliases = ", ".join(registry.aliases_of(store, version))
    return f"version {version.version}{f' ({aliases})' if aliases else ''}"
