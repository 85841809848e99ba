"""Temperature and class-prior adjustment, fitted on held-out answers of known truth, in plain Python.

Temperature: probabilities in proportion to p^(1/T), T by maximum likelihood (Guo et al. 2017, arXiv
1706.04599). Class priors: an answer's log-probability less tau times the log of its share (Menon et
al. 2021, arXiv 2007.07314), tau by macro-F1, which counts the rare "maybe" as much as "yes".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medslm.data.records import ANSWERS, Answer
from medslm.data.scores import macro_f1
from medslm.evaluation.metrics import argmax

# A question fewer or more right then moves the recall of the rarest answer by ten points at most;
# with fewer, tau follows single questions. PubMedQA's folds of 50 have six "maybe": it takes two.
MIN_OF_EACH = 10
TAUS = tuple(round(0.1 * i, 1) for i in range(21))  # 0 leaves the answers, 1 is Menon et al.'s own
BETA_LOW, BETA_HIGH = 0.05, 20.0  # 1/T; beyond these nothing changes that six digits show
SMALLEST = 5e-7  # half of the last digit that predictions are written with
BINS = 10

Probabilities = Mapping[Answer, float]
Logs = tuple[float, ...]  # of yes, no, maybe


class Fit(NamedTuple):
    """A temperature, a tau and the answers' shares they go with."""

    temperature: float
    tau: float
    prior: tuple[float, ...]

    def scaled(self, probabilities: Probabilities) -> dict[Answer, float]:
        """Return the probabilities at this temperature: as sure as the model is right."""
        return _softmax([z / self.temperature for z in _logs(probabilities)])

    def adjusted(self, probabilities: Probabilities) -> dict[Answer, float]:
        """Return the scaled probabilities with the prior taken out tau times: for the answer alone."""
        return _softmax(_adjusted(_logs(probabilities), self.temperature, self.tau, self.prior))


def enough(gold: Sequence[Answer]) -> bool:
    """Return whether each answer is the right one for at least ten of the questions."""
    counts = Counter(gold)
    return all(counts[answer] >= MIN_OF_EACH for answer in ANSWERS)


def fit(gold: Sequence[Answer], probabilities: Sequence[Probabilities]) -> Fit:
    """Fit temperature, then tau; of equally good taus the smallest. ``gold`` must hold every answer."""
    rows = [_logs(p) for p in probabilities]
    truth = [ANSWERS.index(answer) for answer in gold]
    temperature = 1 / _beta(rows, truth)
    prior = tuple(gold.count(answer) / len(gold) for answer in ANSWERS)

    scaled = [tuple(value / temperature for value in z) for z in rows]

    def quality(tau: float) -> float:
        yes, no, maybe = (tau * math.log(share) for share in prior)
        return macro_f1(gold, [_best(a - yes, b - no, c - maybe) for a, b, c in scaled])

    return Fit(temperature, max(TAUS, key=quality), prior)


def _best(yes: float, no: float, maybe: float) -> Answer:
    """As `argmax`, without a mapping: this runs once per question and tau."""
    if yes >= no:
        return "yes" if yes >= maybe else "maybe"
    return "no" if no >= maybe else "maybe"


def brier(gold: Sequence[Answer], probabilities: Sequence[Probabilities]) -> float:
    """Return the mean squared distance to the truth, summed over answers: 0 to 2 (Brier 1950)."""
    terms = [
        (p[answer] - (answer == g)) ** 2
        for g, p in zip(gold, probabilities, strict=True)
        for answer in ANSWERS
    ]
    return math.fsum(terms) / len(gold)


class Bin(NamedTuple):
    """Questions answered about equally surely: how many, how sure on average, how often right."""

    n: int
    confidence: float
    accuracy: float


def bins(gold: Sequence[Answer], probabilities: Sequence[Probabilities]) -> list[Bin]:
    """Return the questions in ten bins of equal width by the probability of the answer given.

    As Guo et al. 2017, section 2 (after Naeini et al. 2015); a bin without questions is left out.
    """
    inside: dict[int, list[tuple[float, bool]]] = {}
    for g, p in zip(gold, probabilities, strict=True):
        said = argmax(p)
        place = min(int(p[said] * BINS), BINS - 1)
        inside.setdefault(place, []).append((p[said], said == g))
    return [
        Bin(
            len(own),
            math.fsum(sure for sure, _ in own) / len(own),
            sum(r for _, r in own) / len(own),
        )
        for _, own in sorted(inside.items())
    ]


def ece(gold: Sequence[Answer], probabilities: Sequence[Probabilities]) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over `bins`."""
    found = bins(gold, probabilities)
    return math.fsum(b.n * abs(b.confidence - b.accuracy) for b in found) / len(gold)


def _beta(rows: Sequence[Logs], truth: Sequence[int]) -> float:
    """Minimise the mean of -log softmax(beta z)[truth], convex in beta, by guarded Newton steps."""
    low, high, beta = BETA_LOW, BETA_HIGH, 1.0
    for _ in range(60):
        slope = curvature = 0.0
        for z, right in zip(rows, truth, strict=True):
            top = max(z)
            weights = [math.exp(beta * (value - top)) for value in z]
            total = sum(weights)
            mean = sum(w * v for w, v in zip(weights, z, strict=True)) / total
            slope += mean - z[right]
            curvature += sum(w * (v - mean) ** 2 for w, v in zip(weights, z, strict=True)) / total
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curvature if curvature > 0 else low
        new = step if low < step < high else math.sqrt(low * high)
        if abs(new - beta) <= 1e-9 * beta:
            return new
        beta = new
    return beta


def _logs(probabilities: Probabilities) -> Logs:
    return tuple(math.log(max(probabilities[answer], SMALLEST)) for answer in ANSWERS)


def _adjusted(z: Logs, temperature: float, tau: float, prior: Sequence[float]) -> list[float]:
    return [v / temperature - tau * math.log(share) for v, share in zip(z, prior, strict=True)]


def _softmax(values: Sequence[float]) -> dict[Answer, float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    total = math.fsum(weights)
    return _named([weight / total for weight in weights])


def _named(values: Sequence[float]) -> dict[Answer, float]:
    return dict(zip(ANSWERS, values, strict=True))
