"""What a candidate gains on dev over what it has to beat, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import Answer, Prediction
from medslm.evaluation.differences import ALPHA, p_text

# Below so many questions a bootstrap interval is too narrow to rest on (docs/log.md): p has the word.
_FEW = 100


class Gained(NamedTuple):
    """A gain with its 95 % interval and exact p, both models asked the same questions."""

    gain: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        """Say it in one line."""
        shown = "" if self.p < ALPHA else ": not shown to be more than chance"
        few = " (too narrow for so few)" if self.n < _FEW else ""
        return (
            f"{self.gain:+.3f} on {self.n} questions, 95 % {self.low:+.3f} to {self.high:+.3f}{few}, "
            f"p {p_text(self.p)}{shown}"
        )


# Ours, theirs, the gold answers by PMID, the metric (dev.accuracy, ...): None where nothing is known.
Paired = Callable[
    [Sequence[Prediction], Sequence[Prediction], Mapping[str, Answer], str], Gained | None
]


def on_dev(
    ours: Sequence[Prediction],
    theirs: Sequence[Prediction],
    gold: Mapping[str, Answer],
    metric: str,
) -> Gained | None:
    """Return ours minus theirs on the dev questions; None without probabilities where they are needed.

    Of the answers that the score counts, pooled over a question's students: promotion is decided by these.
    A gain in ``nll`` is a lower one.
    """
    from medslm.evaluation.exchange import macro_f1_p, nll_gain
    from medslm.evaluation.paired import answered, difference, pooled
    from medslm.evaluation.pooling import pool, rows_of

    name = metric.removeprefix("dev.")
    if name == "nll":
        found = nll_gain(gold, *(pool(rows_of(rows, "dev")) for rows in (ours, theirs)))
        return found and Gained(found.gain, *found.interval, found.p, len(gold))
    one, other = (
        pooled(answered(rows, "dev", name=who))
        for rows, who in ((ours, "candidate"), (theirs, "champion"))
    )
    paired = difference(one, other, gold, split="dev")
    if name == "accuracy":
        interval = paired.accuracy, paired.accuracy_low, paired.accuracy_high
        return Gained(*interval, paired.p, paired.n)
    p = macro_f1_p([gold[pmid] for pmid in one.pmids], one.pooled, other.pooled)
    return Gained(paired.macro_f1, paired.macro_f1_low, paired.macro_f1_high, p, paired.n)
