"""Records that MLflow did not take: kept whole under .work/spool until they are sent, each once.

Runs that are only in files are safe as long as the files stay; the next change of params replaces
them. What waits here is a run's whole record, so it can be sent after any number of changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medslm.errors import DataError, TrackingDown
from medslm.files import read_json, sha256_of_json, write_json
from medslm.tracking.record import Record


class Waiting(NamedTuple):
    """A record that waits in ``path`` for the experiment it belongs to."""

    path: Path
    experiment: str
    record: Record


def keep(home: Path, experiment: str, found: Sequence[Record]) -> int:
    """Keep records for later under their fingerprints and return how many wait now.

    The same record is kept once, whatever the number of tries.
    """
    for record in found:
        name = sha256_of_json([experiment, record.fingerprint])[:32]
        body = {"experiment": experiment, "record": dataclasses.asdict(record)}
        write_json(_folder(home) / f"{name}.json", body)
    return len(_files(home))


@contextlib.contextmanager
def kept_if_down(home: Path, experiment: str, found: Sequence[Record]) -> Iterator[None]:
    """Keep the records if MLflow fails inside, and say in the error how they get there."""
    try:
        yield
    except TrackingDown as exc:
        count = keep(home, experiment, found)
        raise TrackingDown(
            f"{exc}; {count} run(s) wait in .work/spool: `medslm sync` sends each once"
        ) from exc


def waiting(home: Path) -> list[Waiting]:
    """Return every record that waits, in a fixed order; DataError names a file that is damaged."""
    return [_read(path) for path in _files(home)]


def send(home: Path, experiment: str, upload: Callable[[list[Record]], object]) -> int:
    """Hand ``upload`` what waits for one experiment, forget it once that returned, and return how many.

    A kill in between sends it again, and then its run is found by its fingerprint.
    """
    mine = [item for item in waiting(home) if item.experiment == experiment]
    if mine:
        upload([item.record for item in mine])
    for item in mine:
        item.path.unlink()
    return len(mine)


def _folder(home: Path) -> Path:
    return home / ".work" / "spool"


def _files(home: Path) -> list[Path]:
    return sorted(_folder(home).glob("*.json"))


def _read(path: Path) -> Waiting:
    from pydantic import TypeAdapter, ValidationError

    body = read_json(path)
    try:
        record = TypeAdapter(Record).validate_python(body["record"])
        return Waiting(path, str(body["experiment"]), record)
    except (KeyError, TypeError, ValidationError) as exc:
        raise DataError(
            f"{path}: not a run that waits ({type(exc).__name__}); delete it, then "
            "`medslm sync --history` takes what git still has"
        ) from None
