"""How often an answer may occur in a training set: generated examples above a quota are left out."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from medslm.data.mix import OVER_QUOTA, Mix
from medslm.data.records import ANSWERS, REAL, Answer, Example

_ROUNDING = 1e-9  # .35 of 20 is 7, whatever a float makes of it


def room(
    real: Mapping[Answer, int], offered: Mapping[Answer, float], quotas: Mapping[Answer, float]
) -> dict[Answer, int]:
    """Return how many of the offered examples of each answer fit: as many as the quotas allow.

    No answer takes more than its share of the whole set, rounded up to a whole example and the real ones
    counted, as far as leaving out generated ones can bring that about; an answer without a quota takes
    what there is. Rounded down, quotas that add up to 1 would allow only sizes of which each share is whole.
    """
    fitting = {answer: math.floor(offered.get(answer, 0) + _ROUNDING) for answer in ANSWERS}
    while True:
        total = sum(real.values()) + sum(fitting.values())
        smaller = {a: _fitting(a, total, real, fitting, quotas) for a in ANSWERS}
        if smaller == fitting:
            return fitting
        fitting = smaller


def within(mixed: Mix, quotas: Mapping[Answer, float], *, seed: int) -> Mix:
    """Return the mix with generated examples left out until no answer is above its quota.

    Which ones stay is drawn by ``seed`` and their pair's id alone, so that neither the order of the
    examples nor another answer's count changes who is ahead of whom. Real examples all stay.
    """
    generated = [example for example in mixed.examples if example.source != REAL]
    real = Counter(example.answer for example in mixed.examples if example.source == REAL)
    fitting = room(real, Counter(example.answer for example in generated), quotas)
    staying = {
        example.pair_id
        for answer, count in fitting.items()
        for example in _ranked(generated, answer, seed)[:count]
    }
    examples = [e for e in mixed.examples if e.source == REAL or e.pair_id in staying]
    over = len(mixed.examples) - len(examples)
    left_out = {**mixed.left_out, **({OVER_QUOTA: over} if over else {})}
    return Mix(examples, dict(sorted(left_out.items())))


def _fitting(
    answer: Answer,
    total: int,
    real: Mapping[Answer, int],
    offered: Mapping[Answer, int],
    quotas: Mapping[Answer, float],
) -> int:
    """Return how many generated examples of an answer a set of ``total`` has room for."""
    if answer not in quotas:
        return offered[answer]
    most = math.ceil(quotas[answer] * total - _ROUNDING) - real.get(answer, 0)
    return min(offered[answer], max(0, most))


def _ranked(examples: Sequence[Example], answer: Answer, seed: int) -> list[Example]:
    """Return the examples of an answer in the order in which they are drawn."""
    alike = [example for example in examples if example.answer == answer]
    return sorted(alike, key=lambda e: hashlib.sha256(f"{seed}:{e.pair_id}".encode()).digest())
