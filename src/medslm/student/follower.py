"""A process beside training that shows it to others, and can neither hold it up nor outlive it for long."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import time
from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

# Training may wait for the follower's last words by this share of its own time, and never longer than
# that many seconds: a server that hangs must not cost more than 1 %.
PATIENCE = 0.01
PATIENCE_S = 5.0


@contextlib.contextmanager
def followed(command: Sequence[str] | None) -> Iterator[None]:
    """Run ``command`` beside the body; None runs nothing.

    The command's standard input ends when the body does, or when this process is killed: it is then
    to finish. One that takes longer than 1 % of the body's time is killed. A command that cannot be
    started is a warning.
    """
    if command is None:
        yield
        return
    started = time.monotonic()
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError as exc:
        log.warning("%s cannot be started (%s): training is not shown", command[0], exc)
        yield
        return
    try:
        yield
    finally:
        _end(process, min(PATIENCE_S, PATIENCE * (time.monotonic() - started)))


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
