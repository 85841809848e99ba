"""What can go wrong, one exit code each, and the one place where an error becomes a line.

MedslmError (70, a bug unless a subclass says otherwise)
├── ParamsError        2   params.yaml, a flag or an environment variable is wrong
├── DataError         10   an input is missing, unreadable or not what it should be
├── IntegrityError    11   bytes do not have the hash they must have
├── LeakageError      12   a test or dev question reached training, or the split is not the official one
├── CredentialsError  20   no key, a refused key, no such model
├── MoneyError        21   quota or credit is used up
├── TeacherDown       22   the endpoint cannot be reached now; run again later
├── TooManyFailures   23   too many requests failed for good
├── GateFailed        30   a dataset-level expectation failed
├── StorageError      40   disk full, read-only, input/output error
├── LockHeld          41   another process is at work on the same thing
├── CheckpointError   42   no usable checkpoint, or it belongs to other inputs
├── Diverged          43   a loss or a weight is not finite
├── WorkerLost        44   a process that trained a cell died
├── TooLarge          45   this machine cannot finish what is asked for
├── TrackingDown      50   the tracking server or registry cannot be reached
├── NotPromotable     51   the model may not become champion
├── OutOfMemory       70   memory is used up; the bug is then in the settings
└── Interrupted 130, 143   a signal asked to stop; run again to go on

Under ``dvc repro`` every failure becomes DVC's own exit code 255, so a failing stage also leaves
``status.json`` in the work folder; ``medslm run`` reads it and exits with the stage's code.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

P = ParamSpec("P")

log = logging.getLogger(__name__)


class MedslmError(Exception):
    """An error a user can act on: one line that names the thing, what was found and what to do."""

    exit_code = 70


class ParamsError(MedslmError):
    """A setting is missing, unknown or out of range."""

    exit_code = 2


class DataError(MedslmError):
    """An input is missing, unreadable or not what it should be."""

    exit_code = 10


class IntegrityError(MedslmError):
    """Bytes do not have the hash they must have."""

    exit_code = 11


class LeakageError(MedslmError):
    """A held-out question reached training, or the split is not the official one."""

    exit_code = 12


class CredentialsError(MedslmError):
    """The endpoint's key is missing or refused, or the model does not exist there."""

    exit_code = 20


class MoneyError(MedslmError):
    """Quota or credit is used up."""

    exit_code = 21


class TeacherDown(MedslmError):
    """The endpoint cannot be reached now; what was answered is safe and a later run goes on."""

    exit_code = 22


class TooManyFailures(MedslmError):
    """So many requests failed for good that the cause is likely systematic."""

    exit_code = 23


class GateFailed(MedslmError):
    """A dataset-level expectation failed."""

    exit_code = 30


class StorageError(MedslmError):
    """The disk is full, read-only or failing."""

    exit_code = 40


class LockHeld(MedslmError):
    """Another process is at work on the same thing."""

    exit_code = 41


class CheckpointError(MedslmError):
    """No checkpoint is usable, or it belongs to other inputs."""

    exit_code = 42


class Diverged(MedslmError):
    """A loss or a weight stopped being finite."""

    exit_code = 43


class WorkerLost(MedslmError):
    """A process that trained a cell died, or too many did; checkpoints are kept."""

    exit_code = 44


class TooLarge(MedslmError):
    """This machine has not the memory, the disk or the hours for what is asked for."""

    exit_code = 45


class TrackingDown(MedslmError):
    """The tracking server or registry cannot be reached; local results are kept."""

    exit_code = 50


class NotPromotable(MedslmError):
    """The model may not become champion."""

    exit_code = 51


class OutOfMemory(MedslmError):
    """Memory is used up; what was stored before is safe."""

    exit_code = 70


INTERRUPTED = 130  # 128 + SIGINT, as shells say it


class Interrupted(MedslmError):
    """A signal asked to stop; what was in flight is stored. The exit code is 128 + its number."""

    exit_code = INTERRUPTED

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


_DISK_TROUBLE = {errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EFBIG}


def work_dir() -> Path:
    """Return the git-ignored folder of resumable work, the same one inside ``dvc exp run --temp``."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work"


def stage(main: Callable[P, None]) -> Callable[P, None]:
    """Make ``main`` log one line, and turn its errors into one line, a status file and an exit code.

    Errors that are not ours keep their traceback: they are bugs.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        for noisy in ("httpx2", "httpx", "openai", "mlflow", "alembic", "transformers"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        started = time.monotonic()
        try:
            main(*args, **kwargs)
        except (MedslmError, OSError) as exc:
            code = exit_code_of(exc)
            if code is None:
                raise
            write_status(code, str(exc))
            print(f"error[{code}]: {exc}", file=sys.stderr)
            raise SystemExit(code) from None
        except KeyboardInterrupt:  # click would make it 1
            write_status(INTERRUPTED, "interrupted; run again to go on")
            print(f"error[{INTERRUPTED}]: interrupted; run again to go on", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        log.info("done in %.1f s", time.monotonic() - started)

    return run


def exit_code_of(exc: Exception) -> int | None:
    """Return the exit code of our errors and of disk trouble; None for anything that is a bug."""
    if isinstance(exc, MedslmError):
        return exc.exit_code
    if isinstance(exc, OSError) and exc.errno in _DISK_TROUBLE:
        return StorageError.exit_code
    return None


def write_status(code: int, message: str) -> None:
    """Leave the exit code where ``medslm run`` finds it, since DVC replaces it by 255."""
    body = {"stage": os.environ.get("DVC_STAGE", ""), "exit_code": code, "message": message}
    try:
        work_dir().mkdir(parents=True, exist_ok=True)
        partial = work_dir() / f"status.json.partial.{os.getpid()}"
        partial.write_text(json.dumps(body, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(work_dir() / "status.json")
    except OSError as exc:  # the line on stderr still says it
        log.warning("could not write status.json: %s", exc)
