"""Show cells in MLflow while they train: a process of its own, of the lowest priority, beside training.

It tails the files that cells feed (student/feed.py). It ends when its standard input does; a server that
is down or hangs is tried a few times, said once, and left alone: `track` fills in from the history.
"""

from __future__ import annotations

import json
import logging
import math
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from medslm.errors import MedslmError
from medslm.student.feed import SUFFIX
from medslm.tracking.cell_runs import Sample, ensure_run, log_samples
from medslm.tracking.gauges import Gauges
from medslm.tracking.store import Store, opened

log = logging.getLogger(__name__)

# After so many failures in a row nothing is sent any more.
TRIES = 3
# The most that the last values may take after training ended.
LAST_S = 10.0
# One try a request and a short wait, unless the user chose: the next pass is the second try.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


class Tail:
    """One cell's file: what was read of it, and what is known of the cell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(SUFFIX)
        self.run_id: str | None = None
        self.ended = self.told = False
        self._offset = self._step = 0
        self._time: float | None = None

    def read(self) -> list[Sample]:
        """Return the values that were added since the last time.

        A step that is made again after a kill is skipped: it was said before. What is not a number
        is left out, since MLflow would show it as the best value there is.
        """
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            body = stream.read()
        whole = body[: body.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [sample for line in whole.splitlines() for sample in self._samples(line)]

    def _samples(self, line: bytes) -> list[Sample]:
        try:
            event = json.loads(line)
            kind, step, when = event["kind"], int(event["step"]), float(event["time"])
            values = dict(event["values"])
        except (ValueError, KeyError, TypeError):  # a line that a kill has cut
            return []
        self.ended = kind == "end"
        before, self._time = self._time, when
        if kind == "step":
            if step <= self._step:
                return []
            self._step = step
            examples = values.pop("examples", 0)
            if before is not None and when > before:
                values["examples_per_s"] = examples / (when - before)
        return [
            Sample(key, float(value), step, when)
            for key, value in values.items()
            if key not in ("epoch", "step") and math.isfinite(value)
        ]

    @property
    def step(self) -> int:
        """The last step that was read."""
        return self._step


class Live:
    """Carries what cells of one variant say to MLflow, a pass at a time."""

    def __init__(self, root: Path, experiment: str, variant: str, work: Path, pid: int) -> None:
        self._root, self._experiment, self._variant = root, experiment, variant
        self._work = work
        self._tails: dict[Path, Tail] = {}
        self._waiting: dict[Path, list[Sample]] = {}
        self._gauges = Gauges(pid)

    def carry(self, *, last: bool = False) -> None:
        """Send what is new; with ``last``, close the runs of cells that did not end.

        Raises TrackingDown; what could not be sent is sent the next time.
        """
        for path in sorted(self._work.glob(f"*{SUFFIX}")):
            tail = self._tails.setdefault(path, Tail(path))
            self._waiting.setdefault(path, []).extend(tail.read())
        open_ = [tail for tail in self._tails.values() if not tail.told]
        if not open_:
            return
        with opened(self._root, self._experiment) as store:
            for tail in open_:
                self._send(store, tail, last=last)

    def _send(self, store: Store, tail: Tail, *, last: bool) -> None:
        key = f"{self._work.name}/{tail.name}"
        tail.run_id = tail.run_id or ensure_run(store, key, self._variant, tail.name)
        samples = self._waiting[tail.path]
        if not tail.ended:
            now = time.time()
            samples += [Sample(k, v, tail.step, now) for k, v in self._gauges.read().items()]
        log_samples(store, tail.run_id, samples)
        self._waiting[tail.path] = []
        if tail.ended or last:
            store.client.set_terminated(tail.run_id, "FINISHED" if tail.ended else "KILLED")
            tail.told = True


def follow(live: Live, closed: Any, *, after_s: float, every_s: float) -> bool:
    """Carry every ``every_s`` seconds until ``closed(seconds)``, which waits, says that training ended.

    Nothing is opened in the first ``after_s`` seconds: a shorter training is shown by `track`. Returns
    False if MLflow was given up.
    """
    if closed(after_s):
        return True
    failures = 0
    while True:
        done = closed(every_s)
        try:
            live.carry(last=done)
            failures = 0
        except (MedslmError, OSError) as exc:
            failures += 1
            if done or failures == TRIES:
                log.warning("training goes on, but is not shown in MLflow (%s)", exc)
                return False
        if done:
            return True


def _end_at_last(seconds: float) -> None:
    """End this process in ``seconds``, wherever it hangs."""
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()


def _closed(seconds: float) -> bool:
    """Wait, at most so long, for the end of standard input: whoever started this is done or dead.

    Then this process has LAST_S seconds left.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and not os.read(sys.stdin.fileno(), 1024):
            _end_at_last(LAST_S)
            return True
    return False


@click.command()
@click.option("--root", type=click.Path(path_type=Path), required=True)
@click.option("--experiment", required=True)
@click.option("--variant", required=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--after-s", type=float, required=True)
@click.option("--every-s", type=float, required=True)
def main(
    root: Path, experiment: str, variant: str, work: Path, after_s: float, every_s: float
) -> None:
    """Follow the cells in WORK until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.nice(19)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for training; this then hears of its end
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    live = Live(root, experiment, variant, work, os.getppid())
    follow(live, _closed, after_s=after_s, every_s=every_s)


if __name__ == "__main__":
    main()
