"""What is in the registry, as a table: versions, their aliases, scores and commits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medslm.errors import DataError
from medslm.evaluation.compare import CompareParams
from medslm.params import load_section
from medslm.tracking import registry
from medslm.tracking.answering import find
from medslm.tracking.card import CARD
from medslm.tracking.ledger import TrackParams
from medslm.tracking.registry import VARIANT
from medslm.tracking.store import FINGERPRINT, Store, opened

_COLUMNS = ("version", "aliases", "variant", "fingerprint", "commit")


class Listed(NamedTuple):
    """One version of the registered model."""

    version: str
    aliases: tuple[str, ...]
    variant: str
    fingerprint: str
    commit: str | None
    metrics: Mapping[str, float]


def models(root: Path) -> str:
    """Return the table of all versions, the newest first; DataError if there is none."""
    knobs = load_section(root / "params.yaml", "track", TrackParams)
    metric = load_section(root / "params.yaml", "compare", CompareParams).metric
    with opened(root, knobs.experiment) as store:
        found = listed(store, knobs.registered_model)
    if not found:
        raise DataError(f"{knobs.registered_model}: no version is registered; run `dvc repro`")
    return f"{knobs.registered_model}\n{table(found, (metric, 'test.accuracy', 'test.macro_f1'))}"


def card(root: Path, wanted: str) -> str:
    """Return the model card of a version, out of its verified package."""
    knobs = load_section(root / "params.yaml", "track", TrackParams)
    with tempfile.TemporaryDirectory() as folder, opened(root, knobs.experiment) as store:
        version = find(store, knobs.registered_model, wanted)
        path = registry.fetch(store, version, Path(folder)) / CARD
        if not path.is_file():
            raise DataError(
                f"{version.name} version {version.version}: was registered without a card"
            )
        return path.read_text(encoding="utf-8")


def listed(store: Store, name: str) -> list[Listed]:
    """Return every version, the newest first, with the metrics of its run."""
    return [
        Listed(
            version=found.version,
            aliases=registry.aliases_of(store, found),
            variant=found.tags.get(VARIANT, ""),
            fingerprint=found.tags.get(FINGERPRINT, ""),
            commit=found.tags.get("git.commit") or run_tag(store, found.run_id, "git.commit"),
            metrics=_metrics(store, found.run_id),
        )
        for found in registry.versions(store, name)
    ]


def table(found: Sequence[Listed], metrics: Sequence[str]) -> str:
    """Return the versions as text in columns; what is not known is a dash."""
    names = list(dict.fromkeys(metrics))
    rows = [(*_COLUMNS[:3], *names, *_COLUMNS[3:])]
    for one in found:
        scores = [f"{one.metrics[m]:.3f}" if m in one.metrics else "-" for m in names]
        commit = one.commit[:7] if one.commit else "-"
        aliases = ", ".join(one.aliases) or "-"
        rows.append((one.version, aliases, one.variant, *scores, one.fingerprint[:7], commit))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def run_tag(store: Store, run_id: str, tag: str) -> str | None:
    """Return a tag of a run, None if the run or the tag is not there."""
    run = registry.run_of(store, run_id)
    return None if run is None else run.data.tags.get(tag)


def _metrics(store: Store, run_id: str) -> Mapping[str, float]:
    run = registry.run_of(store, run_id)
    return {} if run is None else dict(run.data.metrics)
