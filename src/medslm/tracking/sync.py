"""What `medslm sync` does: send what waits, and with it what git remembers, each run once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from medslm.files import lock
from medslm.params import load_section
from medslm.tracking import spool
from medslm.tracking.history import Filled, backfill
from medslm.tracking.ledger import TrackParams, track
from medslm.tracking.store import opened


class Synced(NamedTuple):
    """How many runs waited and are there now, and what each commit brought."""

    sent: int
    filled: list[Filled]

    def __str__(self) -> str:
        """Say it, a line per commit, for a terminal."""
        lines = [f"{self.sent} run(s) that waited are in MLflow now"]
        for commit in self.filled:
            what = commit.left_out or f"{commit.logged} run(s) logged, {commit.reused} were there"
            lines.append(f"{commit.commit[:7]}: {'left out: ' if commit.left_out else ''}{what}")
        return "\n".join(lines)


def sync(root: Path, history: str | None) -> Synced:
    """Send every record that waits; with ``history`` also the runs of the commits up to it.

    Raises TrackingDown if MLflow fails; what was not sent waits on.
    """
    experiment = load_section(root / "params.yaml", "track", TrackParams).experiment
    sent, filled = 0, []
    with lock(root / ".work" / "track.lock", "tracking"):
        for name in sorted({item.experiment for item in spool.waiting(root)}):
            with opened(root, name) as store:
                sent += spool.send(root, name, partial(track, store))
        if history is not None:
            with opened(root, experiment) as store:
                filled = list(backfill(store, root, history))
    return Synced(sent, filled)
