"""The rows of the comparison: each drives one client once and says what the server saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import Client, Job
from benchmarks.watch import Ran, Server, run
from benchmarks.workload import POISON

Result = dict[str, Any]
Measure = Callable[["Bench", Client, Path], Result]
Kill = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Bench:
    """The server, how long a client may take, and by what the numbers of requests are divided."""

    server: Server
    limit_s: float
    shrink: int = 1

    def run(self, client: Client, home: Path, job: Job, kill_when: Kill | None = None) -> Result:
        """Run a client on a job; return how it ended, its answers and the server's counts."""
        command = client.prepare(home, job, self.server.url)
        command.out.unlink(missing_ok=True)
        self.server.mark()
        ran = run(
            command.words,
            cwd=command.cwd,
            env=command.env,
            log=home / "log.txt",
            limit_s=self.limit_s,
            server=self.server,
            kill_when=kill_when,
        )
        # What is in flight at a kill is billed when it is done, whoever listens.
        self.server.until(lambda stats: stats["in_flight"] == 0, 30)
        stats = self.server.stats()
        answered = client.answered(command.out) if ran.rc == 0 else 0
        return {**stats, **ending(ran), "answered": answered, **times(ran, stats)}


def ending(ran: Ran) -> Result:
    """Return how a process ended."""
    return {
        "rc": ran.rc,
        "seconds": ran.seconds,
        "others": ran.others,
        "peak_mb": ran.peak_mb,
        "hung": ran.stopped,
    }


def times(ran: Ran, stats: Result) -> Result:
    """Return replies per second between the first accepted and the last reply, and time to the first."""
    first, last = stats["first_at"], stats["last_at"]
    billed = stats["statuses"].get("200", 0)
    return {
        "rate": billed / (last - first) if first is not None and last and last > first else None,
        "ready_s": None if first is None else first - ran.started_at,
    }


def latency(bench: Bench, client: Client, home: Path) -> Result:
    """200 ms latency, 64 in flight: the share of the ideal rate, which is 64 / 0.2 s."""
    bench.server.reset(latency_s=0.2)
    seen = bench.run(client, home, Job(12_800 // bench.shrink, 64))
    return seen | {"share": None if seen["rate"] is None else seen["rate"] / (64 / 0.2)}


def instant(bench: Bench, client: Client, home: Path) -> Result:
    """No latency, 64 in flight: what a client does per second, its store included."""
    bench.server.reset()
    return bench.run(client, home, Job(5000 // bench.shrink, 64))


def large(bench: Bench, client: Client, home: Path) -> Result:
    """100,000 requests, killed at half and resumed: peak memory, and time until it asks again."""
    return _killed_at_half(bench, client, home, Job(100_000 // bench.shrink, 64), latency_s=0.0)


def killed(bench: Bench, client: Client, home: Path) -> Result:
    """300 prompts, 0.3 s, 32 in flight, SIGKILL at half, run again: what is paid twice."""
    return _killed_at_half(bench, client, home, Job(300 // bench.shrink, 32), latency_s=0.3)


def poison(bench: Bench, client: Client, home: Path) -> Result:
    """One of 300 rows always gets HTTP 400; then the same run again."""
    bench.server.reset(latency_s=0.1, poison=POISON)
    job = Job(300 // bench.shrink, 32, poisoned=100 // bench.shrink)
    first = bench.run(client, home, job)
    again = bench.run(client, home, job)
    return first | {"again_requests": again["requests"], "again_re_billed": again["re_billed"]}


def limited(
    retry_after: str, *, headers: bool = False, told: bool = False
) -> Callable[[Bench, Client, Path], Result]:
    """200 prompts at a server that takes 100 a minute, with or without a hint of it."""

    def measure(bench: Bench, client: Client, home: Path) -> Result:
        rpm = 100 // bench.shrink
        window_s = 60.0 if bench.shrink == 1 else 6.0
        bench.server.reset(
            latency_s=0.1, rpm=rpm, window_s=window_s, retry_after=retry_after, headers=headers
        )
        job = Job(2 * rpm, 32, limited=True, rpm=100 if told else None)
        return bench.run(client, home, job)

    return measure


def flaky(bench: Bench, client: Client, home: Path) -> Result:
    """200 prompts, every fifth request gets 429 by chance and without a Retry-After."""
    bench.server.reset(latency_s=0.1, refuse_share=0.2, seed=7)
    return bench.run(client, home, Job(200 // bench.shrink, 32))


def system(bench: Bench, client: Client, home: Path) -> Result:
    """100 prompts, then the same with another system prompt: answers that are not asked for again."""
    bench.server.reset(latency_s=0.05)
    count = 100 // bench.shrink
    bench.run(client, home, Job(count, 32))
    unchanged = bench.run(client, home, Job(count, 32))
    changed = bench.run(client, home, Job(count, 32, other_system=True))
    fresh = changed["statuses"].get("200", 0)
    return changed | {"stale": changed["answered"] - fresh, "unchanged": unchanged["requests"]}


def _killed_at_half(
    bench: Bench, client: Client, home: Path, job: Job, *, latency_s: float
) -> Result:
    bench.server.reset(latency_s=latency_s)
    half = job.count // 2
    first = bench.run(client, home, job, lambda stats: stats["billed"] >= half)
    second = bench.run(client, home, job)
    return second | {
        "paid_at_kill": first["billed"],
        "unheard_at_kill": first["unheard"],
        "first_rc": first["rc"],
        "peak_mb": max(first["peak_mb"], second["peak_mb"]),
        "first_rate": first["rate"],
        "first_seconds": first["seconds"],
        "others": max(first["others"], second["others"]),
    }
