"""A little work on a reply store, in a process of its own, under one fault of the disk.

python -m tests.teacher.faulty_store FOLDER FAULT CALL N    the Nth os.CALL has the fault
python -m tests.teacher.faulty_store FOLDER FAULT CALL      N = 1, 2, ... in FOLDER/N until all is well
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medslm.errors import StorageError, stage
from medslm.teacher.store import Store, open_store
from tests.teacher.journals import body, intent, key, reply

# Every step ends durable, but for those that note a lost attempt and replies with stored bodies.
STEPS: list[Callable[[Store], None]] = [
    lambda store: store.sending([intent("a"), intent("b")]),
    lambda store: store.received([body("a"), body("b")]),
    lambda store: store.append([reply("a"), reply("b")]),
    lambda store: store.sending([intent("c")]),
    lambda store: store.lost(key("c"), "timeout"),
    lambda store: store.append([reply("c", content=None, finish_reason="rejected")]),
    lambda store: store.note("batch", {"id": "batch-1"}),
    lambda store: store.sending([intent("d")]),
]


def work(folder: Path) -> None:
    """Do all steps; ``done`` holds one byte for each that came back."""
    with (folder / "done").open("wb", buffering=0) as done, open_store(folder) as store:
        for step in STEPS:
            try:
                step(store)
            except StorageError:
                for again in STEPS:  # whoever goes on nevertheless is refused
                    try:
                        again(store)
                    except StorageError:
                        done.write(b"r")
                raise
            done.write(b".")


class Faulty:
    """An ``os`` call whose ``nth`` use has a fault; ``calls`` counts all uses."""

    def __init__(self, real: Callable[..., Any], fault: str, nth: int) -> None:
        self._real = real
        self._fault = fault
        self._nth = nth
        self.calls = 0

    def __call__(self, descriptor: int, *data: Any) -> Any:
        self.calls += 1
        if self._fault == "short-then-EIO" and self.calls == self._nth + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.calls != self._nth:
            return self._real(descriptor, *data)
        if self._fault.startswith("E"):
            number = getattr(errno, self._fault)
            raise OSError(number, os.strerror(number))
        if self._fault.startswith("short"):
            return self._real(descriptor, data[0][: len(data[0]) // 2])
        if self._fault == "kill-half-way":
            self._real(descriptor, data[0][: len(data[0]) // 2])
        elif self._fault == "kill-after":
            self._real(descriptor, *data)
        os.kill(os.getpid(), signal.SIGKILL)
        return None


def in_a_child(folder: Path, fault: str, call: str, nth: int) -> int:
    folder.mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        setattr(os, call, Faulty(getattr(os, call), fault, nth))
        work(folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@stage
def main(folder: Path, fault: str, call: str, nth: int | None) -> None:
    """Say how often the faulty call was used, or under how many N the child was killed."""
    if nth is None:
        nth = 1
        while in_a_child(folder / str(nth), fault, call, nth) == -signal.SIGKILL:
            nth += 1
        sys.stdout.write(f"{nth - 1}\n")
    else:
        faulty = Faulty(getattr(os, call), fault, nth)
        setattr(os, call, faulty)
        try:
            work(folder)
        finally:
            sys.stdout.write(f"{faulty.calls}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if sys.argv[4:] else None)
