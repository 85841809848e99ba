"""The suite on the raw replies of one ask, before anything reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from medslm.data.records import Exchange
from medslm.quality.expected import Expected, Row, Table, allowed, each, rows_at_least

COLUMNS = {
    "id": "str",
    "key": "str",
    "pmid": "str",
    "strategy": "str",
    "teacher": "str",
    "prompt": "str",
    "finish_reason": "str",
    "served_model": "str",
    "has_source": "bool",
    "in_test": "bool",
    "is_failed": "float64",
    "is_cut": "float64",
    "is_repeated": "float64",
}
_ONE = {"min_value": 1, "max_value": 1}


def table(
    ask: str, replies: Sequence[Exchange], *, sources: Collection[str], test: Collection[str]
) -> Table:
    """Return one row per reply; ``sources`` and ``test`` are PMIDs."""
    times = Counter(reply.content for reply in replies if reply.content is not None)
    ordered = sorted(replies, key=lambda reply: (reply.pmid, reply.index, reply.key))
    return Table(COLUMNS, [_row(ask, reply, times, sources, test) for reply in ordered])


def suite(
    *,
    strategy: str,
    max_failed_share: float,
    max_cut_share: float,
    max_repeated_share: float,
) -> list[Expected]:
    """Return what the replies of an ask have to be; cut and repeated ones only warn."""
    shares = {
        "is_failed": (max_failed_share, "critical"),
        "is_cut": (max_cut_share, "warning"),
        "is_repeated": (max_repeated_share, "warning"),
    }
    return [
        rows_at_least(1),
        *each("has_its_shape", "ExpectColumnValuesToMatchRegex", ["key"], regex=r"^[0-9a-f]{64}$"),
        *each("is_unique", "ExpectColumnValuesToBeUnique", ["key"]),
        *each(
            "has_text", "ExpectColumnValuesToHaveText", ["pmid", "finish_reason", "served_model"]
        ),
        *allowed({"strategy": [strategy], "has_source": [True], "in_test": [False]}),
        *each(
            "is_the_same_throughout",
            "ExpectColumnUniqueValueCountToBeBetween",
            ["teacher", "prompt"],
            **_ONE,
        ),
        *(
            Expected(
                "few_of_them",
                "ExpectColumnMeanToBeBetween",
                {"column": column, "min_value": 0, "max_value": most},
                "critical" if severity == "critical" else "warning",
            )
            for column, (most, severity) in shares.items()
        ),
    ]


def _row(
    ask: str,
    reply: Exchange,
    times: Counter[str],
    sources: Collection[str],
    test: Collection[str],
) -> Row:
    content = reply.content
    return {
        "id": f"{ask}:{reply.pmid}:{reply.index}",
        "key": reply.key,
        "pmid": reply.pmid,
        "strategy": reply.strategy,
        "teacher": reply.teacher,
        "prompt": reply.prompt,
        "finish_reason": reply.finish_reason,
        "served_model": reply.served_model,
        "has_source": reply.pmid in sources,
        "in_test": reply.pmid in test,
        "is_failed": float(content is None),
        "is_cut": float(reply.finish_reason == "length"),
        "is_repeated": float(content is not None and times[content] > 1),
    }
