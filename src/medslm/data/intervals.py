"""Intervals of shares, for every room that says how sure a count is."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal distribution


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def wilson(successes: int, n: int) -> Interval:
    """Return the score interval of a share (Wilson 1927, JASA 22:209-212); 0 to 1 where ``n`` is 0.

    It keeps its level for few cases and at 0 and 1, where the normal interval has no width.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if n == 0:
        return Interval(0.0, 1.0)
    share, z2 = successes / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # exact ends, where rounding would leave 1e-17
    return Interval(
        0.0 if successes == 0 else middle - half, 1.0 if successes == n else middle + half
    )
