"""What this machine can do, found in two seconds: its rate of matrix products, its memory and its disk."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from pathlib import Path
from statistics import median

from medslm.models import Dtype, choose_dtype
from medslm.student.shapes import Shape

_PROBE_S = 1.0
_TOKENS = 2048
# A product of the probe is kept below this many operations: seven billion parameters on one slow core
# must not take longer than the probe is meant to.
_PROBE_FLOPS = 4e9

_CGROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device with its sustained rate in operations per second; ``memory`` and ``disk`` are free bytes.

    ``memory`` is the GPU's where there is one.
    """

    device: str
    threads: int
    dtype: str
    rate: float
    memory: int
    disk: int


def probe(shape: Shape, dtype: Dtype, folder: Path) -> Machine:
    """Measure this machine with a product of the model's own feed-forward shape, in its dtype.

    The rate is the median of a second's products: what one gets now, not what an idle machine
    could. ``folder`` is where the work is kept.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = choose_dtype(dtype, device)
    return Machine(
        device=device,
        threads=torch.get_num_threads(),
        dtype=chosen,
        rate=_rate(shape, chosen, device),
        memory=free_memory(),
        disk=free_disk(folder),
    )


def free_memory() -> int:
    """Return the bytes a model can take now: the GPU's, or RAM within the limit of the container."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    found = [_available()]
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
        if limit != "max":
            found.append(int(limit) - int(used))
    except (OSError, ValueError):  # no cgroup v2 here
        pass
    return min(found)


def free_disk(folder: Path) -> int:
    """Return the free bytes of the file system that ``folder`` is, or will be, on."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _available() -> int:
    """Return MemAvailable, which counts caches that can be dropped; elsewhere all physical memory."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _rate(shape: Shape, dtype: str, device: str) -> float:
    import torch

    rows, columns = max(shape.linears, key=lambda pair: pair[0] * pair[1])
    tokens = int(max(16, min(_TOKENS, _PROBE_FLOPS / (2 * rows * columns))))
    kind = getattr(torch, dtype)
    a = torch.ones(tokens, rows, dtype=kind, device=device)
    b = torch.ones(rows, columns, dtype=kind, device=device)
    a @ b
    seconds: list[float] = []
    until = time.monotonic() + _PROBE_S
    while len(seconds) < 3 or time.monotonic() < until:
        started = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * tokens * rows * columns / median(seconds)
