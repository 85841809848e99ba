"""A person's decision holds for the pair as it was, lifts soft reasons only, and is merged line by line."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.files import write_jsonl
from medslm.quality.check import check
from medslm.quality.decisions import (
    MAX_NOTE,
    SOFT,
    Decision,
    Download,
    content_of,
    merge,
    outdated,
    overruled,
    read_decisions,
    verdicts,
)
from medslm.quality.rules import Drop
from tests.factories import pair, question
from tests.quality.builders import LIMITS, ballot

PAIRS = [pair(str(n)) for n in range(1, 6)]
BY_ID = {p.id: p for p in PAIRS}
TRAIN = [question(str(n)) for n in range(1, 6)]
TEST = [question("90", question="Do early ward rounds lower the rate of falls among older women?")]


def decided(of, verdict="keep", note="", **overrides):
    return Decision(of.id, overrides.get("content", content_of(of)), verdict, note)


def said(of, verdict="keep", note="", **overrides):
    return Download(
        overrides.get("pair_id", of.id), overrides.get("content", content_of(of)), verdict, note
    )


def sift(pairs, decisions):
    parts = {"train": TRAIN, "unlabelled": [], "dev": [], "test": TEST}
    return check(pairs, [ballot(p) for p in pairs], **parts, limits=LIMITS, decisions=decisions)


def why(checked):
    return {row.pair.id: set(row.reasons) for row in checked.dropped}


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Is stay shorter?"},
        {"answer": "no"},
        {"context": "Another abstract."},
        {"long_answer": "It was."},
        {"pmid": "9"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_decision_does_not_cover_a_pair_that_changed(change):
    changed = dataclasses.replace(PAIRS[0], **change)
    decision = decided(PAIRS[0])

    assert verdicts([PAIRS[0]], [decision]) == {PAIRS[0].id: "keep"}
    assert verdicts([changed], [decision]) == {}
    assert outdated([changed, PAIRS[1]], [decision]) == [PAIRS[0].id]
    assert outdated(PAIRS, [decision]) == []


def test_where_a_pair_came_from_is_not_its_content():
    moved = dataclasses.replace(PAIRS[0], teacher="other", prompt="rewrite/v2", reply_key="f" * 64)

    assert content_of(moved) == content_of(PAIRS[0])


def test_a_drop_is_a_reason_of_its_own_beside_the_others():
    bad = pair("1", question="Is <b>stay</b> shorter in adults?")

    found = why(sift([bad, PAIRS[1]], [decided(bad, "drop"), decided(PAIRS[1], "drop")]))

    assert found == {
        bad.id: {Drop.MARKUP, Drop.DROPPED_BY_REVIEWER},
        PAIRS[1].id: {Drop.DROPPED_BY_REVIEWER},
    }


def test_a_keep_lifts_what_is_a_matter_of_judgement():
    short = pair("1", question="Is stay?")

    assert why(sift([short], [])) == {short.id: {Drop.TOO_SHORT}}
    assert sift([short], [decided(short)]).kept == [short]


HARD = {
    Drop.LEAKS_HELD_OUT: pair("1", question=TEST[0].question),
    Drop.SECRET: pair("1", long_answer="The key is sk-abcdefghijklmnopqrstuvwxyz0123456789ABCD."),
    Drop.MARKUP: pair("1", long_answer="<script>alert(1)</script>"),
    Drop.NOT_A_QUESTION: pair("1", question="Is the stay of adults in hospital shorter"),
    Drop.COPIES_ITS_SOURCE: pair("1", question=TRAIN[0].question),
}


@pytest.mark.parametrize("reason", HARD)
def test_a_keep_lifts_no_reason_that_is_more_than_judgement(reason):
    of = HARD[reason]

    assert reason in why(sift([of], [decided(of)]))[of.id]


def test_every_reason_is_soft_or_hard_and_leaks_are_never_soft():
    assert set(Drop) >= SOFT
    assert not SOFT & {*HARD, Drop.DUPLICATE, Drop.CONTRADICTION, Drop.DROPPED_BY_REVIEWER}


def test_a_contradiction_ends_when_a_person_drops_one_side():
    asked = "Is the time that adults spend in hospital reduced by it?"
    new = {"strategy": "new", "question": asked}
    one, other = pair("1", **new), pair("1", 1, **new, answer="no")
    both = {one.id: {Drop.CONTRADICTION}, other.id: {Drop.CONTRADICTION, Drop.DUPLICATE}}

    assert why(sift([one, other], [])) == both
    assert why(sift([one, other], [decided(one), decided(other)])) == both
    assert sift([one, other], [decided(other, "drop")]).kept == [one]


@given(
    st.permutations(PAIRS),
    st.lists(st.sampled_from(["keep", "drop", None]), min_size=5, max_size=5),
)
def test_order_changes_no_verdict_and_what_was_kept_is_kept_again(pairs, said):
    decisions = [decided(p, v) for p, v in zip(PAIRS, said, strict=True) if v is not None]

    checked = sift(pairs, decisions)

    ids = {p.id for p in checked.kept}
    assert ids == {p.id for p in sift(PAIRS, decisions[::-1]).kept}
    assert len(checked.kept) + len(checked.dropped) == len(pairs)
    assert sift(checked.kept, decisions).kept == checked.kept


@given(st.sets(st.sampled_from(list(Drop))))
def test_only_a_keep_takes_reasons_away_and_only_a_drop_adds_one(reasons):
    assert overruled(reasons, None) == reasons
    assert overruled(reasons, "drop") == reasons | {Drop.DROPPED_BY_REVIEWER}
    assert overruled(reasons, "keep") == {reason for reason in reasons if reason not in SOFT}


def test_a_download_is_merged_and_sorted_and_wins(tmp_path):
    path = tmp_path / "download.jsonl"
    present = [decided(PAIRS[3], "drop", "old"), decided(PAIRS[1]), decided(PAIRS[2])]
    write_jsonl(
        path,
        [
            said(PAIRS[4], "drop", "new"),
            said(PAIRS[3], "keep"),
            said(PAIRS[2]),
            said(PAIRS[1], "clear"),
            said(PAIRS[0], "clear"),
        ],
    )

    merged = merge(present, path, BY_ID)

    assert merged.decisions == [
        decided(PAIRS[2]),
        decided(PAIRS[3]),
        decided(PAIRS[4], "drop", "new"),
    ]
    assert (merged.new, merged.changed, merged.same, merged.cleared) == (1, 1, 2, 1)
    assert merged.refused == []
    write_jsonl(tmp_path / "review.jsonl", merged.decisions)
    assert read_decisions(tmp_path / "review.jsonl") == merged.decisions


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (said(PAIRS[0], pair_id="nobody:1:0"), "no such pair"),
        (said(PAIRS[0], pair_id="\x1b[2Jwiped"), r"'\x1b[2Jwiped': no such pair"),
        (said(PAIRS[0], content="0" * 64), "has changed since"),
        (said(PAIRS[0], note="a\u202eb"), "characters that nobody can see"),
        (said(PAIRS[0], note="a" * (MAX_NOTE + 1)), "longer than 2000"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_by_number_and_the_others_count(
    tmp_path, line, problem
):
    path = tmp_path / "download.jsonl"
    write_jsonl(path, [said(PAIRS[1], "drop", "two\nlines"), line])

    merged = merge([], path, BY_ID)

    assert [d.pair_id for d in merged.decisions] == [PAIRS[1].id]
    (refused,) = merged.refused
    assert f"{path}:2" in refused
    assert problem in refused


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"pair_id": "a"}',
        json.dumps({**dataclasses.asdict(said(PAIRS[1])), "verdict": "maybe"}),
        json.dumps({**dataclasses.asdict(said(PAIRS[1])), "more": 1}),
        json.dumps({**dataclasses.asdict(said(PAIRS[1])), "note": "\ud800"}),
        json.dumps(dataclasses.asdict(said(PAIRS[0]))),
    ],
)
def test_a_damaged_download_counts_for_nothing_and_names_its_line(tmp_path, line):
    path = tmp_path / "download.jsonl"
    write_jsonl(path, [said(PAIRS[0])])
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"download\.jsonl:2"):
        merge([], path, BY_ID)
