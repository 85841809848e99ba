"""The counts of an ask add up."""

from __future__ import annotations

from medslm.data.records import Dropped, Unreadable
from medslm.quality.check import Checked
from medslm.quality.summary import summarise
from medslm.quality.verdict import report_of
from tests.factories import pair, question
from tests.quality.builders import ballot


def test_counts_add_up_and_name_every_reason():
    pairs = [pair("1"), pair("2", answer="no"), pair("3", answer="maybe")]
    unreadable = [
        Unreadable("k", str(n), "rewrite", 0, reason, None)
        for n, reason in enumerate(["failed:missing", "empty", "empty"])
    ]
    checked = Checked(
        kept=pairs[:1],
        dropped=[Dropped(pairs[1], ("markup", "too_long")), Dropped(pairs[2], ("markup",))],
    )
    votes = [ballot(pairs[0]), ballot(pairs[1]), ballot(pairs[2], answer=None)]

    counts = summarise(pairs, unreadable, votes, checked, report_of("pairs", "a", []), [])

    assert counts["replies"] == counts["parsed"] + sum(counts["unreadable"].values()) == 6
    assert counts["parsed"] == counts["kept"] + counts["dropped"] == 3
    assert counts["unreadable"] == {"empty": 2, "failed:missing": 1}
    assert counts["reasons"] == {"markup": 2, "too_long": 1}
    assert counts["acceptance"] == 0.166667
    assert counts["answers"] == {
        "parsed": {"yes": 1, "no": 1, "maybe": 1},
        "kept": {"yes": 1, "no": 0, "maybe": 0},
    }
    assert (counts["votes"]["n"], counts["votes"]["abstained"]) == (3, 1)
    assert counts["votes"]["agreement"] == 0.5


def test_pseudo_labels_of_labelled_questions_are_compared_with_gold():
    pairs = [pair(str(n), strategy="pseudo-label", answer="yes") for n in (1, 2, 3)]
    sources = [question("1", answer="yes"), question("2", answer="no"), question("3", answer=None)]
    votes = [ballot(p) for p in pairs]

    found = summarise(pairs, [], votes, Checked(pairs, []), report_of("pairs", "a", []), sources)
    rewrites = [pair("1")]
    none = summarise(
        rewrites,
        [],
        [ballot(pair("1"))],
        Checked(rewrites, []),
        report_of("pairs", "a", []),
        sources,
    )

    assert (found["gold"]["n"], found["gold"]["agreed"]) == (2, 1)
    assert none["gold"] is None


def test_without_replies_there_is_no_acceptance():
    counts = summarise([], [], [], Checked([], []), report_of("pairs", "a", []), [])

    assert (counts["replies"], counts["acceptance"]) == (0, None)
    assert counts["votes"]["kappa"] is None
