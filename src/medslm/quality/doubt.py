"""Doubt claimed answers by confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70).

A linear probe reads a model's hidden states of real questions and kept pairs, and judges each by
what it learned from other studies. A pair is suspected where the probe is as sure of another answer
as it is on average of what truly has that answer. The counting of such cases, the confident joint,
is cleanlab's.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from medslm.data.intervals import Interval, wilson
from medslm.data.records import ANSWERS, Answer, Doubt
from medslm.quality.agreement import DIGITS, Vote, agreement, share

_DRAWS = (
    400  # of studies, for the interval of the noise: its ends move by about a tenth of its width
)
_SEED = 0
_MAX_ITERATIONS = 2000


class Sample(NamedTuple):
    """A labelled question as the probe sees it; ``pair_id`` is None for a real one."""

    id: str
    pmid: str
    answer: Answer
    pair_id: str | None
    ask: str | None


class Judged(NamedTuple):
    """Out-of-fold probabilities (samples, 3) in the order yes, no, maybe, and who is suspected."""

    probabilities: Any
    suspected: list[bool]


def judge(samples: Sequence[Sample], states: Any, *, folds: int, strength: float) -> Judged:
    """Return what probes that never saw a sample's study make of it.

    The samples have to be sorted by id, so that sums are made in the same order on every run.
    """
    probabilities = out_of_fold(samples, states, folds=folds, strength=strength)
    return Judged(probabilities, suspects([s.answer for s in samples], probabilities))


def fold_of(pmids: Sequence[str], folds: int) -> dict[str, int]:
    """Return the fold of each study: dealt in the order of their SHA-256, so that folds are even."""
    ranked = sorted(set(pmids), key=lambda pmid: hashlib.sha256(pmid.encode()).digest())
    return {pmid: number % folds for number, pmid in enumerate(ranked)}


def out_of_fold(samples: Sequence[Sample], states: Any, *, folds: int, strength: float) -> Any:
    """Return probabilities from logistic regressions on the standardised states of other folds.

    Where the other folds hold one answer only, that answer is certain.
    """
    import numpy as np

    dealt = fold_of([sample.pmid for sample in samples], folds)
    fold = np.array([dealt[sample.pmid] for sample in samples])
    labels = _numbers([sample.answer for sample in samples])
    found = np.zeros((len(samples), len(ANSWERS)))
    for number in sorted(set(dealt.values())):
        seen, held_out = fold != number, fold == number
        classes = sorted(set(labels[seen].tolist()))
        if len(classes) < 2:
            found[held_out, classes] = 1.0
            continue
        probe = _probe(strength).fit(states[seen], labels[seen])
        found[np.ix_(held_out, probe.classes_)] = probe.predict_proba(states[held_out])
    return found.round(DIGITS)


def suspects(answers: Sequence[Answer], probabilities: Any) -> list[bool]:
    """Return which answers lie off the diagonal of the confident joint."""
    from cleanlab.filter import find_label_issues

    if len(set(answers)) < 2:  # nothing to mistake an answer for
        return [False] * len(answers)
    found = find_label_issues(
        _numbers(answers), probabilities, filter_by="confident_learning", n_jobs=1
    )
    return [bool(suspected) for suspected in found]


def noise(samples: Sequence[Sample], probabilities: Any) -> tuple[float, Interval] | None:
    """Return the estimated share of wrong answers with a 95 % interval; None without two answers.

    The interval is that of drawing studies again (percentile bootstrap); the probes stay the same, so
    it is a little too narrow.
    """
    import numpy as np

    labels = _numbers([sample.answer for sample in samples])
    if len(set(labels.tolist())) < 2:
        return None
    studies: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        studies.setdefault(sample.pmid, []).append(number)
    groups = [studies[pmid] for pmid in sorted(studies)]
    rng = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(_DRAWS):
        chosen = rng.integers(len(groups), size=len(groups))
        rows = np.array([row for group in chosen for row in groups[group]])
        if len(set(labels[rows].tolist())) >= 2:
            drawn.append(_off_diagonal(labels[rows], probabilities[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (0.0, 1.0)
    whole = round(_off_diagonal(labels, probabilities), DIGITS)
    return whole, Interval(round(float(low), DIGITS), round(float(high), DIGITS))


def trusted(measured: dict[str, Any]) -> bool:
    """Tell whether the probe is surely better than always giving the most frequent answer.

    Only then may it drop anything: the lower end of its accuracy's 95 % interval on real questions
    has to lie above the share of that answer.
    """
    share_of_most: float | None = measured["majority_share"]
    return share_of_most is not None and bool(measured["accuracy_low"] > share_of_most)


def measure(samples: Sequence[Sample], judged: Judged) -> dict[str, Any]:
    """Return how well the probe answers real questions of studies it has not seen."""
    real = [n for n, sample in enumerate(samples) if sample.pair_id is None]
    best = judged.probabilities.argmax(axis=1) if len(samples) else []
    votes = [Vote(samples[n].answer, ANSWERS[best[n]]) for n in real]
    found = agreement(votes)
    gold = Counter(vote.claimed for vote in votes)
    low, high = wilson(found["agreed"], found["n"])
    return {
        "n": found["n"],
        "accuracy": found["agreement"],
        "accuracy_low": round(low, DIGITS),
        "accuracy_high": round(high, DIGITS),
        "majority_share": share(max(gold.values(), default=0), len(votes)),
        "kappa": found["kappa"],
        "table": found["table"],
        # experts' answers that it would doubt: how often it is wrong when it doubts, at the least
        "suspected": sum(judged.suspected[n] for n in real),
    }


def doubts(samples: Sequence[Sample], judged: Judged, *, believed: bool) -> list[Doubt]:
    """Return what the probe thinks of every pair; without ``believed`` nothing counts as doubted."""
    found = []
    for sample, row, suspected in zip(
        samples, judged.probabilities.tolist(), judged.suspected, strict=True
    ):
        if sample.pair_id is not None:
            by_answer = dict(zip(ANSWERS, row, strict=True))
            own = by_answer[sample.answer]
            found.append(Doubt(sample.pair_id, by_answer, own, suspected, believed and suspected))
    return found


def summarise(samples: Sequence[Sample], judged: Judged, found: Sequence[Doubt]) -> dict[str, Any]:
    """Return counts of the pairs, in all and per ask, and the estimated noise of their answers."""
    pairs = [n for n, sample in enumerate(samples) if sample.pair_id is not None]
    rows = [samples[n] for n in pairs]
    estimate = noise(rows, judged.probabilities[pairs]) if rows else None
    asks = sorted({sample.ask for sample in rows if sample.ask is not None})
    per_ask = {
        ask: _counts([d for s, d in zip(rows, found, strict=True) if s.ask == ask]) for ask in asks
    }
    return {
        **_counts(found),
        "noise": estimate[0] if estimate else None,
        "noise_low": estimate[1].low if estimate else None,
        "noise_high": estimate[1].high if estimate else None,
        "asks": per_ask,
    }


def _counts(found: Sequence[Doubt]) -> dict[str, int]:
    return {
        "n": len(found),
        "suspected": sum(doubt.suspected for doubt in found),
        "doubted": sum(doubt.doubted for doubt in found),
    }


def _off_diagonal(labels: Any, probabilities: Any) -> float:
    """Return the share of the estimated joint of given and true answers where they differ."""
    from cleanlab.count import estimate_joint

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that a draw of few studies lacks
        return 1.0 - float(estimate_joint(labels, probabilities).trace())


def _probe(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
    return make_pipeline(StandardScaler(), regression)


def _numbers(answers: Sequence[Answer]) -> Any:
    import numpy as np

    return np.array([ANSWERS.index(answer) for answer in answers], dtype=int)
