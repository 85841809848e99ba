"""The student's estimates as aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from medslm.student.planning import Planned

_HEAD = ("stage", "TFLOP", "minutes", "memory GiB", "disk MiB")


def plan_text(planned: Planned) -> str:
    """Return a row per stage and the total: work and time add up, memory is that of the largest."""
    rows = [
        (row.stage, row.flops.total, row.seconds / 60, row.memory, row.disk) for row in planned.rows
    ]
    total = (
        "total",
        sum(row[1] for row in rows),
        sum(row[2] for row in rows),
        max(row[3] for row in rows),
        sum(row[4] for row in rows),
    )
    lines = [_HEAD]
    for name, spent, minutes, memory, disk in [*rows, total]:
        figures = (f"{spent / 1e12:,.1f}", f"{minutes:,.1f}", f"{memory / 2**30:.1f}")
        lines.append((name, *figures, f"{disk / 2**20:,.1f}"))
    return "\n".join([_table(lines), *_remarks(planned)])


def _remarks(planned: Planned) -> list[str]:
    machine, work = planned.machine, planned.work
    said = [
        f"{planned.shape.parameters / 1e6:,.0f}M weights in {machine.dtype}; {machine.device}, "
        f"{machine.threads} thread(s): {machine.rate / 1e9:,.0f} GFLOP/s now, "
        f"{machine.memory / 2**30:.1f} GiB of memory free; prompts of {work.tokens:.0f} tokens "
        f"(longest {work.longest}), {work.cells} cell(s) a variant"
    ]
    return said + planned.remarks


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
