"""The workload of the quality benchmark is one that the checks keep: else it would measure dropping."""

from __future__ import annotations

from benchmarks.quality import STUDIES, workload

from medslm.quality.check import check
from medslm.quality.guard import Guard
from medslm.quality.parse import parse_all
from tests.quality.builders import LIMITS, ballot
from tests.quality.test_guard import BOUNDS


def test_synthetic_replies_are_all_read_and_nearly_all_kept():
    parts, replies = workload(120)

    parsed = parse_all(replies, parts["train"], "many")
    near = Guard(parts["dev"], parts["test"], BOUNDS).matches(parsed.pairs)
    checked = check(parsed.pairs, [ballot(p) for p in parsed.pairs], **parts, limits=LIMITS)

    assert sum(len(part) for part in parts.values()) == STUDIES
    assert (len(parsed.pairs), parsed.unreadable, near) == (120, [], [])
    assert len(checked.kept) > 110
