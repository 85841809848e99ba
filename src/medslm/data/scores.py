"""The two numbers PubMedQA is judged by, as its evaluation script computes them."""

from __future__ import annotations

from collections.abc import Sequence

from medslm.data.records import Answer


def accuracy(truth: Sequence[Answer], given: Sequence[Answer | None]) -> float:
    """Return the share of right answers; no answer is not right. ValueError if empty or unequal."""
    if not truth or len(truth) != len(given):
        raise ValueError(f"{len(truth)} true and {len(given)} given answers cannot be compared")
    return sum(t == g for t, g in zip(truth, given, strict=True)) / len(truth)


def f1(truth: Sequence[Answer], given: Sequence[Answer | None], answer: Answer) -> float:
    """Return the F1 of one answer, 0 when it is never right (scikit-learn's zero_division=0)."""
    both = sum(t == g == answer for t, g in zip(truth, given, strict=True))
    counted = sum(t == answer for t in truth) + sum(g == answer for g in given)
    return 2 * both / counted if counted else 0.0


def macro_f1(truth: Sequence[Answer], given: Sequence[Answer | None]) -> float:
    """Return the mean F1 over the answers that occur in ``truth`` or ``given``.

    As scikit-learn's ``f1_score(average="macro")``, which pubmedqa/evaluation.py calls.
    """
    answers = sorted({*truth, *(g for g in given if g is not None)})
    return sum(f1(truth, given, answer) for answer in answers) / len(answers)
