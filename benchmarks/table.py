"""Results become cells: the figure that was asked for, with its range over the repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import rows
from benchmarks.rows import Measure, Result

Cell = Callable[[Sequence[Result]], str]


@dataclass(frozen=True)
class Row:
    """One line of the table. ``speed`` is the figure for the ratio, None where a ratio says nothing."""

    title: str
    measure: Measure
    cell: Cell
    target: str
    speed: str | None = None
    ours_only: bool = False
    told: bool = False


def span(results: Sequence[Result], name: str, form: str) -> str:
    """Return a figure as one number, or as its middle with its range."""
    values = sorted(float(r[name]) for r in results if r.get(name) is not None)
    if not values:
        return "-"
    middle = format(values[len(values) // 2], form)
    low, high = format(values[0], form), format(values[-1], form)
    return middle if low == high else f"{middle} ({low}-{high})"


def ended(results: Sequence[Result]) -> str:
    """Return a warning for runs that hung or failed; an empty text if all went well."""
    hung = sum(r["hung"] for r in results)
    codes = sorted({str(r["rc"]) for r in results if not r["hung"] and r["rc"] != 0})
    said = [f"stopped at the time limit {hung}x"] if hung else []
    said += [f"exit {', '.join(codes)}"] if codes else []
    return f" [{'; '.join(said)}]" if said else ""


def refused(results: Sequence[Result]) -> str:
    """Return how many requests got 429."""
    return span([{"n": r["statuses"].get("429", 0)} for r in results], "n", ".0f")


def rate_cell(results: Sequence[Result]) -> str:
    """Replies per second."""
    return f"{span(results, 'rate', '.0f')}/s{ended(results)}"


def share_cell(results: Sequence[Result]) -> str:
    """Replies per second and their share of the ideal rate."""
    return f"{span(results, 'rate', '.0f')}/s, {span(results, 'share', '.1%')}{ended(results)}"


def large_cell(results: Sequence[Result]) -> str:
    """Memory and the time to the first request of the resumed run."""
    peak, ready = span(results, "peak_mb", ".0f"), span(results, "ready_s", ".1f")
    return (
        f"peak {peak} MB, ready in {ready} s, {span(results, 're_billed', '.0f')} paid twice"
        f"{ended(results)}"
    )


def killed_cell(results: Sequence[Result]) -> str:
    """What was paid twice, of what had been paid, beside what found its client dead."""
    return (
        f"{span(results, 're_billed', '.0f')} of {span(results, 'paid_at_kill', '.0f')}, unheard "
        f"{span(results, 'unheard_at_kill', '.0f')}, rows {answers(results)}{ended(results)}"
    )


def poison_cell(results: Sequence[Result]) -> str:
    """Rows that came, requests for the poisoned one, and what a rerun asks."""
    rejected = span([{"n": r["statuses"].get("400", 0)} for r in results], "n", ".0f")
    return (
        f"{answers(results)} rows, {rejected} x 400; rerun: "
        f"{span(results, 'again_requests', '.0f')} requests, "
        f"{span(results, 'again_re_billed', '.0f')} paid twice{ended(results)}"
    )


def limit_cell(results: Sequence[Result]) -> str:
    """Rows, duration from the first to the last reply, and refusals."""
    lasted = [
        {"s": r["last_at"] - r["first_at"]} for r in results if r["last_at"] and r["first_at"]
    ]
    return (
        f"{answers(results)} rows, {span(lasted, 's', '.1f')} s, {refused(results)} x 429"
        f"{ended(results)}"
    )


def system_cell(results: Sequence[Result]) -> str:
    """Stale answers after the change, beside what an unchanged rerun asks."""
    return (
        f"{span(results, 'stale', '.0f')} stale of {answers(results)}; unchanged rerun: "
        f"{span(results, 'unchanged', '.0f')} requests{ended(results)}"
    )


def answers(results: Sequence[Result]) -> str:
    """Return how many rows the client handed over with an answer."""
    return span(results, "answered", ".0f")


ROWS: Mapping[str, Row] = {
    "latency": Row(
        "12,800 prompts, 200 ms, 64 in flight: rate, share of the ideal 320/s",
        rows.latency,
        share_cell,
        ">= 95 %",
        "rate",
    ),
    "instant": Row(
        "5,000 prompts, no latency, 64 in flight: rate",
        rows.instant,
        rate_cell,
        ">= 250/s",
        "rate",
    ),
    "large": Row(
        "100,000 prompts, SIGKILL at half, rerun",
        rows.large,
        large_cell,
        "< 300 MB, < 10 s, <= 64 paid twice",
        ours_only=True,
    ),
    "kill": Row(
        "300 prompts, 0.3 s, 32 in flight, SIGKILL at half, rerun: paid twice",
        rows.killed,
        killed_cell,
        "<= 32",
    ),
    "poison": Row(
        "300 prompts, one always gets HTTP 400; then a rerun",
        rows.poison,
        poison_cell,
        "299 rows, rerun asks 0",
    ),
    "limit-right": Row(
        "200 prompts at 100 RPM, right Retry-After",
        rows.limited("right"),
        limit_cell,
        "200 rows, <= 63 s, <= 10 x 429",
    ),
    "limit-understated": Row(
        "the same, Retry-After always 1 s",
        rows.limited("understated"),
        limit_cell,
        "200 rows, <= 63 s, <= 10 x 429",
    ),
    "limit-headers": Row(
        "the same, x-ratelimit headers and right Retry-After",
        rows.limited("right", headers=True),
        limit_cell,
        "200 rows, <= 63 s, <= 10 x 429",
    ),
    "limit-told": Row(
        "the same, Retry-After always 1 s, client told 100 RPM",
        rows.limited("understated", told=True),
        limit_cell,
        "200 rows, <= 63 s, <= 10 x 429",
        told=True,
    ),
    "flaky": Row(
        "200 prompts, 20 % random 429 without Retry-After",
        rows.flaky,
        limit_cell,
        "200 rows",
    ),
    "system": Row(
        "100 prompts, then only the system prompt changed",
        rows.system,
        system_cell,
        "0 stale",
    ),
}


Found = Sequence[Result] | str  # the repeats, or the reason why there are none


def markdown(results: Mapping[str, Mapping[str, Found]], names: Sequence[str]) -> str:
    """Return the table, a row per test and a column per client; the first client is ours."""
    head = ["Test", *names, "ours : best peer", "Target for ours"]
    lines = [head, ["---"] * len(head)]
    for key, by_client in results.items():
        row = ROWS[key]
        cells = [_text(row, by_client.get(name, "not run")) for name in names]
        lines.append([row.title, *cells, _ratio(row, by_client, names), row.target])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(row: Row, found: Found) -> str:
    return found if isinstance(found, str) else f"{row.cell(found)} (n={len(found)})"


def _ratio(row: Row, by_client: Mapping[str, Found], names: Sequence[str]) -> str:
    if row.speed is None:
        return ""
    middle: dict[str, float] = {}
    for name in names:
        found = by_client.get(name, "not run")
        if not isinstance(found, str):
            values = sorted(float(result[row.speed]) for result in found if result.get(row.speed))
            if values:
                middle[name] = values[len(values) // 2]
    ours = middle.pop(names[0], None)
    return f"{ours / max(middle.values()):.2f}" if ours and middle else ""
