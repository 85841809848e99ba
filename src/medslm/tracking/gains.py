"""What a candidate gains on dev over what it has to beat, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import Answer, Prediction


class Interval(NamedTuple):
    """A gain with its 95 % interval, both models asked the same questions."""

    gain: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Say it as the report does."""
        shown = "" if self.low > 0 else ": not shown to be more than chance"
        return f"{self.gain:+.3f} on {self.n} questions, 95 % {self.low:+.3f} to {self.high:+.3f}{shown}"


# Ours, theirs, the gold answers by PMID, the metric (dev.accuracy, ...): None where there is no interval.
Paired = Callable[
    [Sequence[Prediction], Sequence[Prediction], Mapping[str, Answer], str], Interval | None
]
