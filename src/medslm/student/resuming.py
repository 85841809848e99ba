"""When a training cell keeps a checkpoint, whether one may be gone on from, and leaving on request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medslm.errors import CheckpointError, Interrupted
from medslm.signals import Stopping
from medslm.student import checkpoint

log = logging.getLogger(__name__)


class Keeper:
    """The checkpoints of one training run in ``folder``; None keeps none.

    ``run`` identifies what the steps depend on: a checkpoint of another run is refused.
    """

    def __init__(
        self, folder: Path | None, run: str, *, every_s: float, clock: Callable[[], float]
    ) -> None:
        self.folder, self.run, self.every_s, self.clock = folder, run, every_s, clock
        self.saved = clock()

    def load(self) -> checkpoint.State | None:
        """Return the newest whole checkpoint; CheckpointError if all are damaged or of another run."""
        import torch

        state = None if self.folder is None else checkpoint.load_newest(self.folder)
        if state is None:
            return None
        if state.plain.get("run") != self.run:
            raise CheckpointError(
                f"{self.folder}: the checkpoints are of a training with other knobs or examples; "
                "delete this folder to train from the start"
            )
        if state.plain["threads"] != torch.get_num_threads():
            log.warning(
                "the checkpoint was made with %d threads, this process has %d: the last digits of "
                "the adapter may differ from those of an undisturbed run",
                *(state.plain["threads"], torch.get_num_threads()),
            )
        log.info("going on from step %d (%s)", state.step, self.folder)
        return state

    def due(self) -> bool:
        """Return whether ``every_s`` seconds have passed since the last checkpoint."""
        return self.folder is not None and self.clock() - self.saved >= self.every_s

    def save(self, step: int, tensors: Callable[[], dict[str, Any]], plain: dict[str, Any]) -> None:
        """Write a checkpoint of this step."""
        import torch

        if self.folder is None:
            return
        whole = {**plain, "run": self.run, "threads": torch.get_num_threads()}
        checkpoint.save(self.folder, checkpoint.State(step, tensors(), whole))
        self.saved = self.clock()

    def leave_if_asked(self, stopping: Stopping, step: int) -> None:
        """Raise Interrupted, whose exit code is that of the signal, if one asked to stop."""
        if stopping.signum:
            kept = "no checkpoint is kept" if self.folder is None else "a checkpoint is kept"
            raise Interrupted(
                f"stopped after step {step}, {kept}; run again to go on", stopping.signum
            )
