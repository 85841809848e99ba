"""What checking costs: parse, guard, rules, pool and Great Expectations on many synthetic pairs.

    python -m benchmarks.quality                     # 5,000 and 50,000 pairs of 1,000 studies
    python -m benchmarks.quality --pairs 500,5000    # a quick look

Each size runs in a process of its own, whose highest resident memory is read at the end. The replies are made
by counting, as JSON of a usual length; the abstracts have about 200 words, like PubMedQA's.
"""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from tests.quality.builders import ballot

from medslm.data.records import ANSWERS, Exchange, Passage, Question
from medslm.params import load_section
from medslm.quality.check import check
from medslm.quality.guard import Bounds, Guard
from medslm.quality.parse import parse_all
from medslm.quality.pool import pool
from medslm.quality.rules import Limits
from medslm.quality.settings import ExpectationParams, LeakageParams, RuleParams
from medslm.quality.suites.pairs import COLUMNS, rows_of, suite

ROOT = Path(__file__).parent.parent
STUDIES = 1000
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
T = TypeVar("T")


@click.command()
@click.option("--pairs", default="5000,50000", help="How many, one size after the other.")
@click.option("--one", type=int, hidden=True, help="Run this size here and print it as JSON.")
def main(pairs: str, one: int | None) -> None:
    """Print seconds per part, the peak of memory, and how time grows from the first size to the last.

    Processor seconds tell more than those of the clock where other work runs beside.
    """
    if one is not None:
        click.echo(json.dumps(measure(one)))
        return
    rows = []
    for size in (int(part) for part in pairs.split(",")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.quality", "--one", str(size)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        click.echo(_line(rows[-1]))
    if len(rows) > 1:
        grown, used = (rows[-1][kind] / rows[0][kind] for kind in ("total_s", "processor_s"))
        click.echo(
            f"{rows[-1]['pairs'] / rows[0]['pairs']:.0f} times the pairs, {grown:.1f} times the time, "
            f"{used:.1f} times the processor"
        )


def measure(count: int) -> dict[str, Any]:
    """Return seconds per part for so many pairs, the kept ones, and the peak of memory in MB."""
    logging.disable(logging.WARNING)
    params = ROOT / "params.yaml"
    limits = Limits(**load_section(params, "quality.rules", RuleParams).model_dump())
    knobs = load_section(params, "quality.leakage", LeakageParams)
    whole = load_section(params, "quality.expectations", ExpectationParams).model_dump()
    bounds = Bounds(**knobs.model_dump(exclude={"embeddings", "acknowledged"}))
    floors = whole.pop("min_kept")
    parts, replies = workload(count)
    seconds: dict[str, float] = {}
    began = time.process_time()

    def timed(name: str, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - started
        return result

    parsed = timed("parse", lambda: parse_all(replies, parts["train"], "many")).pairs
    ballots = [ballot(pair) for pair in parsed]
    guard = timed("index", lambda: Guard(parts["dev"], parts["test"], bounds))
    matches = timed("guard", lambda: guard.matches(parsed))
    near = {match.pair_id for match in matches}
    checked = timed("rules", lambda: check(parsed, ballots, limits=limits, leaking=near, **parts))
    pooled = timed(
        "pool",
        lambda: pool(
            {"many": checked.kept},
            near_identical=limits.near_identical,
            near_duplicate=limits.near_duplicate,
            doubted=frozenset(),
        ),
    )
    rows = timed(
        "rows", lambda: rows_of(checked.kept, ballots, leak_overlap=limits.leak_overlap, **parts)
    )

    def expect() -> int:
        from medslm.quality.expectations import evaluate
        from medslm.quality.expected import Table

        expected = suite(ask="many", strategy="new", min_kept=floors["new"], **whole)
        return len(evaluate(Table(COLUMNS, rows), expected).outcomes)

    timed("expectations", expect)
    peak = _PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None
    return {
        "pairs": len(parsed),
        "kept": len(checked.kept),
        "pooled": len(pooled.kept["many"]),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_s": round(sum(seconds.values()), 2),
        "processor_s": round(time.process_time() - began, 2),
        "peak_mb": int(peak.group(1)) // 1024,
    }


def workload(count: int) -> tuple[dict[str, list[Question]], list[Exchange]]:
    """Return 1,000 studies, half of them held out, and so many replies about the others."""
    rng = random.Random(0)
    words = ["".join(rng.choices("bcdfglmnprst", k=1) + rng.choices("aeiourntsl", k=rng.randrange(3, 9)))
             for _ in range(6000)]  # fmt: skip
    studies = [_study(str(100_000 + n), words, rng) for n in range(STUDIES)]
    half = STUDIES // 2
    train = studies[:half]
    replies = [_reply(train[n % half], n // half, words, rng) for n in range(count)]
    dev, test = studies[half : half + 50], studies[half + 50 :]
    parts = {"train": train, "unlabelled": [], "dev": dev, "test": test}
    return parts, replies


def _study(pmid: str, words: list[str], rng: random.Random) -> Question:
    own = rng.sample(words, 120)
    sentences = [" ".join(rng.choices(own, k=18)).capitalize() + "." for _ in range(11)]
    return Question(
        pmid=pmid,
        question=f"Does {' '.join(own[:4])} change the {' '.join(own[4:8])} of adults with {own[8]}?",
        sections=(
            Passage("METHODS", " ".join(sentences[:5])),
            Passage("RESULTS", " ".join(sentences[5:])),
        ),
        long_answer=f"With {own[8]} the {' '.join(own[:10])} was other than {' '.join(own[10:16])}.",
        answer=rng.choice(ANSWERS),
    )


def _reply(study: Question, index: int, words: list[str], rng: random.Random) -> Exchange:
    own = study.context.lower().replace(".", "").split()
    about = rng.choices(own, k=12)
    first, second, third = (" ".join(about[i : i + 4]) for i in (0, 4, 8))
    asked = f"Is the {first} of adults with {second} more than {third}?"
    found = f"{' '.join(rng.choices(own, k=14))} was {rng.randrange(100)} of {rng.choice(words)}"
    told = f"In the study the {found}."
    reply = {"question": asked, "answer": rng.choice(ANSWERS), "long_answer": told}
    return Exchange(
        key=f"{int(study.pmid) * 1000 + index:064x}",
        pmid=study.pmid,
        strategy="new",
        index=index,
        teacher="counting",
        prompt="new/chat-v1",
        content=json.dumps(reply),
        finish_reason="stop",
        served_model="counting",
        structured=False,
        usage=None,
    )


def _line(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{name} {value:.1f}" for name, value in row["seconds"].items())
    return (
        f"{row['pairs']:,} pairs ({row['kept']:,} kept, {row['pooled']:,} pooled): {row['total_s']:.1f} s, "
        f"processor {row['processor_s']:.1f} s "
        f"({parts}); peak {row['peak_mb']:,} MB"
    )


if __name__ == "__main__":
    main()
