"""A process that trains in children and lets them meet a fault.

``python -m tests.student.killing MODEL ROOT``
Model and libraries are loaded once, each child is a fork, so that a kill costs half a second. Orders
come as JSON lines on stdin, one answer line each on stdout: ``{"job": NAME, ...}`` with at most one of
``"signal": N, "saves": K, "after_s": S`` (S seconds after the Kth checkpoint, so that it lands in
training however slow the machine is); ``"kill_at": N`` (before the Nth call that touches the disk while a
checkpoint is written); ``"file_bytes": N`` (the longest file allowed); ``"memory_from": N`` (no more
memory from the Nth reading of the clock on).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from medslm.errors import MedslmError, exit_code_of
from medslm.models import Loaded, load_causal_lm
from medslm.student import checkpoint
from medslm.student.cells import cell_data
from medslm.student.lora import add_lora
from medslm.student.tuning import Cell
from tests.student import world

_CALLS = [
    (os, "fsync"),
    (os, "replace"),
    (os, "mkdir"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "open"),
    (io, "open"),
    (safetensors.torch, "save_file"),
]


class Fatal:
    """Kills this process before the ``nth`` call to the disk within a checkpoint; counts them all."""

    def __init__(self, nth: int) -> None:
        self.nth = nth
        self.calls = 0
        self.each: list[int] = []
        self.within = False
        for module, name in _CALLS:
            setattr(module, name, self._counted(getattr(module, name), name))
        save = checkpoint.save

        def watched(folder: Path, state: checkpoint.State) -> None:
            before, self.within = self.calls, True
            save(folder, state)
            self.within = False
            self.each.append(self.calls - before)

        checkpoint.save = watched

    def _counted(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            self.calls += self.within
            if self.within and self.calls == self.nth:
                if name == "save_file":  # half of it is on the disk
                    real(*words, **named)
                    half = Path(words[1]).read_bytes()
                    Path(words[1]).write_bytes(half[: len(half) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **named)

        return call


def train(loaded: Loaded, folder: Path, order: dict[str, Any]) -> None:
    """Train; ``calls`` holds how many calls to the disk each checkpoint took."""
    fatal = Fatal(order["kill_at"]) if "kill_at" in order else None
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"],) * 2)
    if "memory_from" in order:
        starve(loaded, folder, order["memory_from"])
    else:
        world.run(loaded, folder)
    if fatal is not None:
        (folder / "calls").write_text(json.dumps(fatal.each))


def tell(descriptor: int) -> None:
    """Write a byte to ``descriptor`` after every checkpoint."""
    save = checkpoint.save

    def told(folder: Path, state: checkpoint.State) -> None:
        save(folder, state)
        os.write(descriptor, b".")

    checkpoint.save = told


def starve(loaded: Loaded, folder: Path, reading: int) -> None:
    """Train on long examples; at a reading of the clock all memory that is left is taken away."""
    left = iter(range(reading))
    taken: list[torch.Tensor] = []

    def clock() -> float:
        if next(left, None) is None and not taken:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            now = pages * resource.getpagesize() + (1 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (now, now))
            taken.extend(hoard())
        return time.monotonic()

    torch.manual_seed(0)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.1, targets="all-linear", layers="top-2")
    knobs = {k: world.TUNE[k] for k in ("lr", "warmup", "weight_decay", "clip", "epochs")}
    cell = Cell(loaded, model, **knobs, batch_size=20, seed=0, reuse_frozen=True)
    data = cell_data(loaded, world.FOLD, world.examples(words=150), world.dev(), 1024)
    cell.train(data.train, data.dev, checkpoints=folder / "long", every_s=0, clock=clock)


def hoard() -> Iterator[torch.Tensor]:
    """Yield blocks until nothing of 64 KB is left, not even of what the process freed and keeps."""
    size = 1 << 26
    while size >= 1 << 16:
        try:
            yield torch.empty(size, dtype=torch.uint8)
        except RuntimeError:
            size //= 2


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[None]:
    with (folder / "log").open("w") as stream:
        handler = logging.StreamHandler(stream)
        logging.getLogger("medslm").addHandler(handler)
        logging.getLogger("medslm").setLevel(logging.INFO)
        yield
        handler.flush()


def child(loaded: Loaded, folder: Path, order: dict[str, Any]) -> int:
    try:
        if "file_bytes" in order:  # the log would hit the limit too
            train(loaded, folder, order)
        else:
            with logged(folder):
                train(loaded, folder, order)
    except (MedslmError, OSError) as exc:
        (folder / "error").write_text(str(exc))
        return exit_code_of(exc) or 1
    return 0


def main() -> None:
    model, root = sys.argv[1], Path(sys.argv[2])
    loaded = load_causal_lm(model, revision=None, dtype="float32")
    for line in sys.stdin:
        order = json.loads(line)
        folder = root / order["job"]
        if "from" in order:
            shutil.copytree(root / order["from"], folder)
        folder.mkdir(exist_ok=True)
        (folder / "log").unlink(missing_ok=True)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            os.close(ours)
            tell(theirs)
            os._exit(child(loaded, folder, order))
        os.close(theirs)
        if "signal" in order:
            for _ in range(order["saves"]):
                os.read(ours, 1)  # comes back empty when the child has ended
            time.sleep(order["after_s"])
            os.kill(pid, order["signal"])
        _, status = os.waitpid(pid, 0)
        os.close(ours)
        answer = {"code": os.waitstatus_to_exitcode(status)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
