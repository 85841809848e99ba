"""Percentile bootstrap over questions: always the same draws, whatever the order of the questions.

Questions are drawn as they are, not answer by answer: how many have the answer maybe is chance too,
and an interval that held it fixed would be too narrow for another test set (docs/decisions/007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medslm.data.intervals import Interval
from medslm.data.records import ANSWERS

RESAMPLES = 5000  # the ends then move by about a thirtieth of the width from seed to seed
_SEED = 0


def macro_f1_interval(confusion: Sequence[Sequence[int]]) -> Interval:
    """Return the 95 % interval of macro-F1; rows and columns as in `Part.confusion`.

    Resampling questions is resampling the cells of their confusion matrix.
    """
    import numpy as np

    counts = np.asarray(confusion)
    tables = weights(counts.ravel()).reshape(RESAMPLES, *counts.shape)
    answers = range(len(ANSWERS))
    hits = np.stack([tables[:, i, i] for i in answers], 1)
    gold = tables.sum(2)
    given = np.stack([tables[:, :, i].sum(1) for i in answers], 1)
    return percentiles(macro_f1s(hits, gold + given))


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the 95 % interval of a mean over questions, ``values`` in an order of their own (by PMID)."""
    import numpy as np

    return percentiles(weights(np.ones(len(values), dtype=int)) @ np.array(values) / len(values))


def weights(counts: Any, *, resamples: int = RESAMPLES, seed: int = _SEED) -> Any:
    """Return how often each kind of question is drawn: a row per resample, a column per kind.

    ``counts`` says how many questions there are of each kind; their order decides the draws. Whole
    numbers as floats, which multiply fast and still exactly.
    """
    import numpy as np

    counts = np.asarray(counts)
    rng = np.random.default_rng(seed)
    return rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples).astype(float)


def macro_f1s(hits: Any, counted: Any) -> Any:
    """Return macro-F1 along the last axis, one place per answer; as `data.scores.macro_f1`.

    ``counted`` is gold plus given. An answer that is neither gold nor given does not count.
    """
    import numpy as np

    f1 = np.divide(2 * hits, counted, out=np.zeros(counted.shape), where=counted > 0)
    return f1.sum(-1) / np.maximum((counted > 0).sum(-1), 1)


def percentiles(values: Any) -> Interval:
    """Return the ends that leave out 2.5 % of the values on either side."""
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
