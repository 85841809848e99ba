"""The bill as aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from medslm.teacher.estimate import LATENCY_S, NOTHING, Range, Row, dollars, total
from medslm.teacher.planning import Bill
from medslm.teacher.prices import MODES, Mode

_NONE = "-"


def bill_text(bill: Bill) -> str:
    """Return the bill: what there is to ask, what it costs in each mode, and what is assumed."""
    parts = [_requests(bill.rows), _costs(bill.rows), *bill.remarks, *_assumed(bill.rows)]
    return "\n".join(parts)


def _requests(rows: Sequence[Row]) -> str:
    head = ["stage", "teacher", "model", "requests", "answered", "to ask", "prompt tokens"]
    lines = [
        [
            row.name,
            row.teacher,
            row.model,
            f"{row.requests:,}",
            _NONE if row.held is None else f"{row.held:,}",
            f"{row.to_ask:,}",
            _range(row.prompt),
            _range(row.output),
        ]
        for row in rows
    ]
    return _table([[*head, "reply tokens"], *lines], left=3)


def _costs(rows: Sequence[Row]) -> str:
    paid = [row for row in rows if row.prompt is not None]
    head = ["low / expected / high", "sync", "flex", "batch (up to 24 h)", "minutes (sync)"]
    lines = [[row.name, *(_money(row, mode) for mode in MODES), _minutes(row)] for row in rows]
    if len(paid) > 1:
        sums = [total(row.costs[mode] for row in paid) for mode in MODES]
        in_all = sum(row.minutes or 0 for row in paid)
        lines.append(["total", *(_dollars(one) for one in sums), f"{in_all:.1f}"])
    return "\n" + _table([head, *lines], left=1)


def _assumed(rows: Sequence[Row]) -> list[str]:
    """Say in one line what an estimate rests on; nothing where there is none."""
    paid = [row for row in rows if row.prompt is not None]
    if not paid:
        return []
    learned = [row.name for row in paid if row.learned]
    usual = [row.name for row in paid if not row.learned]
    lengths = []
    if usual:
        lengths.append(
            "replies as long as a frontier model's on PubMedQA (high: all of max_tokens)"
        )
    if learned:
        lengths.append(f"replies as long as those in the journal ({', '.join(learned)})")
    return [
        f"assumed: {'; '.join(lengths)}; {LATENCY_S:g} s a reply; no retries; no prompt from "
        "the cache (low: what all begin with is)"
    ]


def _money(row: Row, mode: Mode) -> str:
    found = row.costs[mode]
    return "free" if row.free and found is not None else _dollars(found)


def _dollars(found: Range | None) -> str:
    if found is None:
        return _NONE
    return " / ".join(dollars(micros) for micros in found)


def _range(found: Range | None) -> str:
    if found is None or found == NOTHING:
        return _NONE
    return " / ".join(_short(tokens) for tokens in found)


def _short(tokens: int) -> str:
    """Write a number of tokens in thousands, since it is an estimate."""
    return f"{tokens:,}" if tokens < 1000 else f"{tokens / 1000:,.0f}k"


def _minutes(row: Row) -> str:
    return _NONE if row.minutes is None else f"{row.minutes:.1f}"


def _table(lines: Sequence[Sequence[str]], *, left: int) -> str:
    """Align columns, the first ``left`` of them to the left."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
