"""Processes under measurement: the server, and a client that is timed, weighed and sometimes killed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
_POLL_S = 0.01
_PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class Server:
    """`benchmarks.server` in a process of its own, from entering to leaving the block."""

    url: str

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip() + "/v1"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def reset(self, **manners: object) -> None:
        """Forget everything; ``manners`` are fields of `benchmarks.server.Manners`."""
        self._call("POST", "/reset", manners)

    def mark(self) -> None:
        """Begin a new phase; the bills stay."""
        self._call("POST", "/mark", {})

    def stats(self) -> dict[str, Any]:
        """Return what the server counted."""
        return self._call("GET", "/stats", None)

    def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float) -> bool:
        """Return whether ``holds`` of the stats became true in time."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if holds(self.stats()):
                return True
            time.sleep(_POLL_S)
        return False

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


@dataclass(frozen=True)
class Ran:
    """How a client's process ended. ``rc`` is None if it was killed, by us or at its time limit.

    ``others`` is how many cores were busy meanwhile with neither client nor server: above a few
    tenths the figures say more about the machine than about the client.
    """

    rc: int | None
    seconds: float
    others: float
    peak_mb: float
    started_at: float
    stopped: bool


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    limit_s: float,
    server: Server,
    kill_when: Callable[[dict[str, Any]], bool] | None = None,
) -> Ran:
    """Run a client; SIGKILL its whole process group as soon as ``kill_when`` holds of the stats.

    The peak is VmHWM of the process itself, read until it ends: getrusage would count ours too.
    """
    started = time.monotonic()
    elsewhere = _elsewhere_s(server.pid)
    peak_kb = 0
    killed = False
    with log.open("ab") as stream:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None:
            peak_kb = max(peak_kb, _peak_kb(process.pid))
            late = time.monotonic() - started > limit_s
            stats = server.stats() if kill_when is not None else {}
            if late or (kill_when is not None and kill_when(stats)):
                _kill(process)
                killed = True
                break
            time.sleep(_POLL_S)
        process.wait()
    seconds = time.monotonic() - started
    stopped = killed and seconds > limit_s
    return Ran(
        None if killed else process.returncode,
        seconds,
        (_elsewhere_s(server.pid) - elsewhere) / seconds,
        peak_kb / 1024,
        started,
        stopped,
    )


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without what would redirect a client, and with ``extra``."""
    drop = ("DVC_ROOT", "PYTHONPATH", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    ours = {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1,localhost"}
    return kept | ours | extra


def _elsewhere_s(server: int) -> float:
    """Return the CPU seconds that this machine gave to others than us, our children and the server."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _wait, *rest = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    )
    served = Path(f"/proc/{server}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    own = sum(os.times()[:4])
    return (user + nice + system + sum(rest) - int(served[11]) - int(served[12])) / tick - own


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself meanwhile


def _peak_kb(pid: int) -> int:
    try:
        found = _PEAK.search(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) if found else 0
