"""How far two raters agree beyond chance: tables, Cohen's kappa, and what a verifier's word is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from medslm.data.intervals import Interval, wilson
from medslm.data.records import ANSWERS, Answer

DIGITS = 6

Table = Mapping[Answer, Mapping[Answer, int]]


class Vote(NamedTuple):
    """What was claimed (a teacher's answer, or the gold one) and what the verifier says."""

    claimed: Answer
    voted: Answer | None


def agreement(votes: Iterable[Vote]) -> dict[str, Any]:
    """Count claimed against voted: n, answered, agreed, their share, Cohen's kappa, the table.

    Shares and kappa leave abstentions out and are None when nothing is left.
    """
    counts = Counter(votes)
    table = {c: {v: counts[Vote(c, v)] for v in ANSWERS} for c in ANSWERS}
    answered = _total(table)
    abstained = sum(count for vote, count in counts.items() if vote.voted is None)
    interval = kappa_interval(table)
    return {
        "n": answered + abstained,
        "answered": answered,
        "abstained": abstained,
        "agreed": _agreed(table),
        "agreement": share(_agreed(table), answered),
        "kappa": kappa(table),
        "kappa_low": interval.low if interval else None,
        "kappa_high": interval.high if interval else None,
        "table": table,
    }


def kappa(table: Table) -> float | None:
    """Return Cohen's kappa of a square table (Cohen 1960): agreement beyond what chance gives.

    None when it is undefined: an empty table, or both sides always giving the same one answer.
    """
    chance = _chance(table)
    total = _total(table)
    if chance is None or chance == total * total:
        return None
    return round((_agreed(table) * total - chance) / (total * total - chance), DIGITS)


def kappa_interval(table: Table) -> Interval | None:
    """Return a 95 % interval of kappa; None where kappa is undefined.

    Cohen (1960) takes chance agreement as known and puts an interval around the observed one. Here
    that is Wilson's, since the normal one has no width when all or none agree, as few votes often do.
    """
    chance, total = _chance(table), _total(table)
    if chance is None or chance == total * total:
        return None
    by_chance = chance / (total * total)
    observed = wilson(_agreed(table), total)
    low, high = ((bound - by_chance) / (1 - by_chance) for bound in observed)
    return Interval(round(low, DIGITS), round(high, DIGITS))


def weight(measured: Mapping[str, Any]) -> float:
    """Return what a verifier's votes count for, 0 to 1, from its agreement with experts' answers.

    It is the lower end of kappa's 95 % interval, at least 0: skill that is surely there. Who is not
    surely better than chance, which includes always saying the same, counts for nothing.
    """
    return max(0.0, measured["kappa_low"] or 0.0)


def share(part: int, whole: int) -> float | None:
    """Return a rounded share, None of nothing."""
    return round(part / whole, DIGITS) if whole else None


def _total(table: Table) -> int:
    return sum(sum(row.values()) for row in table.values())


def _agreed(table: Table) -> int:
    return sum(table[answer][answer] for answer in ANSWERS)


def _chance(table: Table) -> int | None:
    """Return the agreement by chance times the squared total, exactly; None for an empty table."""
    if not _total(table):
        return None
    rows = {answer: sum(table[answer].values()) for answer in ANSWERS}
    columns = {answer: sum(row[answer] for row in table.values()) for answer in ANSWERS}
    return sum(rows[answer] * columns[answer] for answer in ANSWERS)
