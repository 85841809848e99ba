"""What two models' answers to the same questions say of their difference, and the sentence for it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

ALPHA = 0.05
POWER = 0.8
Split = Literal["dev", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``one`` minus ``other`` on the ``n`` questions of a split, as shares (0.02 is two points).

    Accuracy and macro-F1 are means over students (fold x seed), with 95 % bootstrap intervals over
    questions; each question keeps the answers of all its students. ``p`` is of the exact sign-flip test of
    accuracy, which is McNemar's with one student each; ``p_holm`` is it after Holm's correction over
    the table. ``only_one`` and ``only_other`` count questions that just one of the two gets right, by
    the answers of the score table (``p_pooled``: McNemar's exact test of these). ``sd`` is over the
    ``seeds`` that both have, or that one has where the other was not trained; None where they have other
    ones. ``detectable`` is the smallest difference found four times in five, all tests of the table
    counted.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    one: str
    other: str
    split: Split
    n: int
    students: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    sd: float | None
    seeds: int
    p: float
    p_holm: float
    only_one: int
    only_other: int
    p_pooled: float
    detectable: float

    @property
    def is_shown(self) -> bool:
        """Return whether these students differ by more than chance in the questions, all tests counted."""
        return self.p_holm < ALPHA

    @property
    def is_shown_over_seeds(self) -> bool:
        """Return whether it is also more than training anew with another seed may bring.

        Questions alone say nothing of that: of two equal training sets whose students spread by two points,
        one in five would pass the first test. The mean over the seeds that both have must lie further
        from zero than its 95 % interval (Student's t) is wide; one seed never shows it.
        """
        if not self.is_shown or self.sd is None:
            return False
        from scipy.stats import t

        reach = float(t.ppf(1 - ALPHA / 2, self.seeds - 1)) * self.sd / math.sqrt(self.seeds)
        return abs(self.accuracy) > reach


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many they are, in the same order (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted


def detectable_difference(n: int, discordance: float, *, tests: int = 1) -> float:
    """Return the smallest true difference that a paired test of ``n`` questions finds 4 times in 5.

    Miettinen 1968 (Biometrics 24:339-352) solved for the difference: two-sided at 5 %, divided by ``tests``
    as Holm's first step does. ``discordance`` is the mean squared difference of a question's scores, which
    for right or wrong is the share of questions on which the two models differ; 0 where they never
    do: then nothing is known.
    """
    normal = statistics.NormalDist()
    z, w, d = normal.inv_cdf(1 - ALPHA / 2 / tests), normal.inv_cdf(POWER), discordance
    root = math.sqrt(max(0.0, z * z * n * d - (n + w * w) * (z * z - w * w) * d))
    return (z * math.sqrt(n * d) + root) / (n + w * w)


def sentence(found: Difference) -> str:
    """Say in one plain sentence which is better, by how much, and whether that is shown."""
    ahead, behind, sign = found.one, found.other, 1
    if found.accuracy < 0:
        ahead, behind, sign = found.other, found.one, -1
    if not found.detectable:
        return f"{ahead} and {behind} are right on the very same questions: not shown"
    low, high = sorted(sign * end for end in (found.accuracy_low, found.accuracy_high))
    if found.accuracy == 0:
        said = f"{ahead} and {behind} are equally often right"
    else:
        said = f"{ahead} beats {behind} by {points(abs(found.accuracy))} points"
    if found.students > 1:
        spread = "" if found.sd is None else f", sd over seeds {points(found.sd)}"
        said += f" (mean of {found.students} students{spread})"
    verdict = "not shown"
    if found.is_shown_over_seeds:
        verdict = "shown"
    elif found.is_shown:
        why = "seeds differ as much"
        if found.sd is None:
            why = (
                "another seed was not tried" if found.seeds < 2 else "their seeds are not the same"
            )
        verdict = f"shown for these students only, {why}"
    return (
        f"{said}, 95 % {points(low)} to {points(high)}, p {_equal(found.p)} "
        f"(Holm {p_text(found.p_holm)}): {verdict}"
    )


def points(share: float) -> str:
    """Return a share as percentage points with one decimal; never "-0.0"."""
    return (
        f"{100 * share:.1f}".replace("-0.0", "0.0") if abs(share) < 0.0005 else f"{100 * share:.1f}"
    )


def _equal(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def p_text(p: float) -> str:
    """Return a p-value in two digits without its leading zero, or "< .001"."""
    if p < 0.001:
        return "< .001"
    text = f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"
    return text if text.startswith("1") else text[1:]
