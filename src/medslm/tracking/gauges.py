"""How busy this machine is: processor and memory from /proc, GPUs through NVIDIA's library where it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


class Gauges:
    """Readings under the names that MLflow's own page of system metrics shows."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._gpus = _gpus()
        self._before = _ticks()

    def read(self) -> dict[str, float]:
        """Return what can be read here: percent since the last reading, and megabytes."""
        found: dict[str, float] = {}
        now = _ticks()
        if now and self._before and now[1] > self._before[1]:
            busy, whole = now[0] - self._before[0], now[1] - self._before[1]
            found["system/cpu_utilization_percentage"] = round(100 * busy / whole, 1)
        self._before = now
        found |= _memory()
        if (resident := _resident(self._pid)) is not None:
            found["system/training_memory_megabytes"] = resident
        for number, (library, handle) in enumerate(self._gpus):
            used = library.nvmlDeviceGetMemoryInfo(handle)
            rates = library.nvmlDeviceGetUtilizationRates(handle)
            found[f"system/gpu_{number}_utilization_percentage"] = float(rates.gpu)
            found[f"system/gpu_{number}_memory_usage_megabytes"] = round(used.used / 1e6, 1)
            watts = library.nvmlDeviceGetPowerUsage(handle) / 1000
            found[f"system/gpu_{number}_power_usage_watts"] = round(watts, 1)
        return found


def _gpus() -> list[tuple[Any, Any]]:
    """Return NVIDIA's library with each device; nothing without the extra `gpu` or without a driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]
    except pynvml.NVMLError:
        return []


def _ticks() -> tuple[int, int] | None:
    """Return (busy, all) clock ticks of all processors since the start of the machine."""
    try:
        first = (_PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *others = (int(word) for word in first.split()[1:9])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + waiting


def _memory() -> dict[str, float]:
    try:
        text = (_PROC / "meminfo").read_text(encoding="ascii")
    except OSError:
        return {}
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
    used = kib["MemTotal"] - kib["MemAvailable"]
    return {
        "system/system_memory_usage_megabytes": round(used / 1e3 * 1.024, 1),
        "system/system_memory_usage_percentage": round(100 * used / kib["MemTotal"], 1),
    }


def _resident(pid: int) -> float | None:
    try:
        pages = int((_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
