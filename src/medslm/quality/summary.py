"""The numbers of one ask that go to git: how many replies became pairs, were kept, and why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from medslm.data.records import ANSWERS, Ballot, Pair, Question, Unreadable
from medslm.quality.agreement import Vote, agreement
from medslm.quality.check import Checked
from medslm.quality.parse import LABELS_SOURCE
from medslm.quality.verdict import Report

DIGITS = 6


def summarise(
    pairs: Sequence[Pair],
    unreadable: Sequence[Unreadable],
    ballots: Sequence[Ballot],
    checked: Checked,
    report: Report,
    sources: Sequence[Question],
) -> dict[str, Any]:
    """Return counts that add up: replies = parsed + unreadable, parsed = kept + dropped.

    ``acceptance`` is kept per reply, since a reply is what costs; None without replies. A dropped
    pair counts under each of its reasons. ``gold`` says how far pseudo-labels of labelled questions
    agree with the experts; None where there are none.
    """
    replies = len(pairs) + len(unreadable)
    by_id = {ballot.pair_id: ballot for ballot in ballots}
    return {
        "ask": report.subject,
        "replies": replies,
        "parsed": len(pairs),
        "unreadable": _counted(reply.reason for reply in unreadable),
        "kept": len(checked.kept),
        "dropped": len(checked.dropped),
        "reasons": _counted(why for row in checked.dropped for why in row.reasons),
        "acceptance": round(len(checked.kept) / replies, DIGITS) if replies else None,
        "answers": {"parsed": _answers(pairs), "kept": _answers(checked.kept)},
        "votes": agreement(Vote(pair.answer, by_id[pair.id].answer) for pair in pairs),
        "gold": _against_gold(pairs, sources),
        "expectations": {
            "evaluated": report.statistics.evaluated,
            "successful": report.statistics.successful,
            "failed_critical": report.statistics.failed_critical,
            "failed_warning": report.statistics.failed_warning,
        },
    }


def _against_gold(pairs: Sequence[Pair], sources: Sequence[Question]) -> dict[str, Any] | None:
    gold = {question.pmid: question.answer for question in sources}
    votes = [
        Vote(answer, pair.answer)
        for pair in pairs
        if pair.strategy == LABELS_SOURCE and (answer := gold.get(pair.pmid)) is not None
    ]
    return agreement(votes) if votes else None


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))


def _answers(pairs: Sequence[Pair]) -> dict[str, int]:
    counts = Counter(pair.answer for pair in pairs)
    return {answer: counts[answer] for answer in ANSWERS}
