"""What a candidate gains on dev over what it has to beat, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import Answer, Prediction

# What the paired statistics give intervals of; of the negative log-likelihood they give none.
_WITH_INTERVAL = ("accuracy", "macro_f1")


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


def on_dev(
    ours: Sequence[Prediction],
    theirs: Sequence[Prediction],
    gold: Mapping[str, Answer],
    metric: str,
) -> Interval | None:
    """Return ours minus theirs on the dev questions, as `compare` pairs variants.

    A mean over students (fold x seed), which for accuracy and one student each is the difference of
    the scores that promotion is decided by.
    """
    from medslm.evaluation.paired import answered, difference

    name = metric.removeprefix("dev.")
    if name not in _WITH_INTERVAL:
        return None
    one, other = answered(ours, "dev", name="candidate"), answered(theirs, "dev", name="champion")
    found = difference(one, other, gold, split="dev")
    gain, low, high = (float(getattr(found, f"{name}{end}")) for end in ("", "_low", "_high"))
    return Interval(gain, low, high, found.n)
