"""What happens in a cell, a line per event, in a file beside its checkpoints: for whoever watches training.

Training only appends to a local file. It never waits for a reader, and a full disk ends the feed, not
the training.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

log = logging.getLogger(__name__)

SUFFIX = ".events.jsonl"


class Feed:
    """Appends events to ``path``, timed: ``begin``, then ``step`` and ``epoch``, at last ``end``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if os.fstat(self._file).st_size:  # what a kill may have cut is a line of its own then
                os.write(self._file, b"\n")
        except OSError as exc:
            self._give_up(exc)

    def begin(self, step: int, *, threads: int, processes: int) -> None:
        """Say what the steps after ``step`` run on: the last digits of a result depend on it."""
        values = {"threads": threads, "processes": processes}
        self._write({"kind": "begin", "step": step, "values": values})

    def step(self, step: int, *, loss: float, learning_rate: float, examples: int) -> None:
        """Say that a step was made: its mean loss (finite), its rate and its number of examples."""
        values = {"loss": loss, "learning_rate": learning_rate, "examples": examples}
        self._write({"kind": "step", "step": step, "values": values})

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Say that an epoch ended after ``step`` steps, with its losses and dev metrics."""
        self._write({"kind": "epoch", "step": step, "values": dict(values)})

    def end(self, step: int) -> None:
        """Say that the cell is trained."""
        self._write({"kind": "end", "step": step, "values": {}})

    def close(self) -> None:
        """Release the file; nothing can be said any more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, event: Mapping[str, object]) -> None:
        if self._file is None:
            return
        line = json.dumps({**event, "time": time.time()}) + "\n"
        try:
            os.write(self._file, line.encode("ascii"))
        except OSError as exc:
            self._give_up(exc)

    def _give_up(self, exc: OSError) -> None:
        log.warning("%s: %s; this cell is trained without being shown", self._path, exc)
        self.close()
