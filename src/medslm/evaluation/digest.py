"""The report's numbers as a Markdown page for a pull request; every text of the data is escaped."""

from __future__ import annotations

from collections.abc import Mapping

from medslm.evaluation.background import Background, Table
from medslm.evaluation.report import caveats, details
from medslm.evaluation.rows import Comparison
from medslm.evaluation.sheet import Sheet
from medslm.evaluation.table import escape_markdown, markdown


def summary(comparison: Comparison, sheets: Mapping[str, Sheet], background: Background) -> str:
    """Return the comparison, what stands behind it and its caveats; MD5s stay in the report."""
    tables = {
        "More numbers on dev": details(comparison, sheets, "dev"),
        "More numbers on test": details(comparison, sheets, "test"),
        "Generated data": background.quality,
        "Votes": background.votes,
        "Diversity": background.diversity,
        "Cost": background.spend,
        "Training": background.training,
    }
    parts = [markdown(comparison).replace("# Comparison", "# medslm: results", 1).rstrip()]
    parts += [f"## {title}\n\n{_table(rows)}" for title, rows in tables.items() if rows]
    told = [f"- {escape_markdown(one)}" for one in caveats(comparison, sheets)]
    parts.append("\n".join(["## Caveats", "", *told]))
    return "\n\n".join(parts) + "\n"


def _table(rows: Table) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(
        f"| {' | '.join(cell if at == 1 else escape_markdown(cell) for cell in line)} |"
        for at, line in enumerate(lines)
    )
