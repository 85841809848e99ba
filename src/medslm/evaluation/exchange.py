"""How often chance alone brings a gain as large: two models exchanged at random, question by question.

If the two are equally good, each question's answers could as well be the other's. The test is exact but
for the number of draws, for any metric and few questions, where bootstrap intervals are too narrow:
of 95 % intervals of macro-F1's difference, .945 cover for 500 questions, .91 for 50, .67 for 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from medslm.data.intervals import Interval
from medslm.data.records import ANSWERS, Answer
from medslm.evaluation.bootstrap import macro_f1s, mean_interval
from medslm.evaluation.metrics import nll
from medslm.evaluation.pooling import Pooled

DRAWS = 9999  # with the pair as it is, a p of .05 is known to .002
_SEED = 0


class Gain(NamedTuple):
    """Ours minus theirs in mean log-likelihood of the gold answers, positive where ours is better."""

    gain: float
    interval: Interval
    p: float


def macro_f1_p(
    gold: Sequence[Answer], ours: Sequence[Answer | None], theirs: Sequence[Answer | None]
) -> float:
    """Return the two-sided p of the difference in macro-F1, an answer per model and question."""
    import numpy as np

    code = {answer: place for place, answer in enumerate(ANSWERS)}
    truth = np.array([code[answer] for answer in gold])
    one, other = (
        np.array([code[a] if a is not None else len(ANSWERS) for a in given])
        for given in (ours, theirs)
    )

    def macro(given: Any) -> Any:
        hits = np.stack([((given == i) & (truth == i)).sum(-1) for i in code.values()], -1)
        counted = np.stack([(given == i).sum(-1) + (truth == i).sum() for i in code.values()], -1)
        return macro_f1s(hits, counted)

    def gap(swapped: Any) -> Any:
        return macro(np.where(swapped, other, one)) - macro(np.where(swapped, one, other))

    return _p(gap, len(gold))


def nll_gain(
    gold: Mapping[str, Answer], ours: Mapping[str, Pooled], theirs: Mapping[str, Pooled]
) -> Gain | None:
    """Return what ours gains in mean log-likelihood over all questions of ``gold``, in nats.

    None if one of them gives no probabilities.
    """
    import numpy as np

    costs = [
        [nll([gold[pmid]], [pooled[pmid].probabilities]) for pmid in sorted(gold)]
        for pooled in (theirs, ours)
    ]
    if any(cost is None for own in costs for cost in own):
        return None
    gaps = np.array(costs[0], dtype=float) - np.array(costs[1], dtype=float)
    interval = mean_interval(gaps.tolist())
    p = _p(lambda swapped: np.where(swapped, -gaps, gaps).mean(-1), len(gaps))
    return Gain(math.fsum(gaps) / len(gaps), interval, p)


def _p(gap: Callable[[Any], Any], questions: int) -> float:
    """Return how often a difference as far from zero comes up, the one at hand counted."""
    import numpy as np

    rng = np.random.default_rng(_SEED)
    found = abs(float(gap(np.zeros(questions, dtype=bool))))
    far = 1
    for size in (DRAWS // 3,) * 3:  # a third at a time: 3,333 x 500 questions are some megabytes
        drawn = np.abs(gap(rng.random((size, questions)) < 0.5))
        far += int((drawn >= found - 1e-12).sum())
    return far / (DRAWS + 1)
