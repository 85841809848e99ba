"""An edit says exactly one place in an abstract, or the reply is unreadable with the reason why."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage
from medslm.quality.edits import Edit, apply_edits, read_edits
from medslm.quality.fields import CannotReadError, Unread

SECTIONS = (
    Passage("METHODS", "We compared early and late walking\u2009in 120 adults."),
    Passage("RESULTS", "Stay was 4.1 days early and 6.0 days late (p=0.01). Falls were rare."),
)


def reason(edits, sections=SECTIONS):
    with pytest.raises(CannotReadError) as caught:
        apply_edits(edits, sections)
    return caught.value.reason


def read(fields):
    with pytest.raises(CannotReadError) as caught:
        read_edits(fields)
    return caught.value.reason


def test_edits_are_made_and_all_else_stays():
    edits = [Edit("p=0.01", "p=0.71"), Edit("4.1 days", "5.9 days"), Edit("120", "80")]

    assert apply_edits(edits, SECTIONS) == (
        "We compared early and late walking in 80 adults.\n"
        "Stay was 5.9 days early and 6.0 days late (p=0.71). Falls were rare."
    )


def test_the_order_of_edits_does_not_matter_but_what_they_say_does():
    one, two = Edit("4.1", "5.9"), Edit("Falls were rare.", "Falls were frequent.")

    assert apply_edits([one, two], SECTIONS) == apply_edits([two, one], SECTIONS)
    assert apply_edits([one, two], SECTIONS) != apply_edits([one], SECTIONS)


def test_an_edit_may_take_out_a_sentence_or_a_whole_passage():
    assert apply_edits([Edit(" Falls were rare.", "")], SECTIONS).endswith("(p=0.01).")
    assert "\n" not in apply_edits([Edit(SECTIONS[1].text, " ")], SECTIONS)


def test_blanks_of_any_kind_are_one_space():
    assert "walking in 80 adults" in apply_edits([Edit("in 120", "in 80")], SECTIONS)


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ([Edit("", "x")], Unread.EDIT_NOT_FOUND),
        ([Edit("stay was", "x")], Unread.EDIT_NOT_FOUND),
        ([Edit("adults.\nStay", "x")], Unread.EDIT_NOT_FOUND),
        ([Edit("adults. Stay", "x")], Unread.EDIT_NOT_FOUND),
        ([Edit("days", "x")], Unread.EDIT_NOT_UNIQUE),
        ([Edit("early", "x")], Unread.EDIT_NOT_UNIQUE),
        ([Edit("4.1", "x"), Edit("4.1", "y")], Unread.EDITS_OVERLAP),
        ([Edit("Stay was 4.1", "x"), Edit("4.1 days", "y")], Unread.EDITS_OVERLAP),
    ],
)
def test_what_does_not_say_one_place_is_refused(edits, why):
    assert reason(edits) == why


def test_neighbours_do_not_overlap():
    assert "x y" in apply_edits([Edit("4.1 ", "x "), Edit("days early", "y")], SECTIONS)


def test_occurrences_that_overlap_each_other_are_two():
    assert reason([Edit("aa", "b")], [Passage("", "aaa")]) == Unread.EDIT_NOT_UNIQUE
    assert apply_edits([Edit("aa", "b")], [Passage("", "aab")]) == "bb"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, Unread.NO_EDITS),
        ({"edits": None}, Unread.NO_EDITS),
        ({"edits": []}, Unread.NO_EDITS),
        ({"edits": {}}, Unread.WRONG_TYPE),
        ({"edits": "4.1"}, Unread.WRONG_TYPE),
        ({"edits": ["4.1"]}, Unread.WRONG_TYPE),
        ({"edits": [{"find": "4.1"}]}, Unread.WRONG_TYPE),
        ({"edits": [{"find": "4.1", "replace": 5.9}]}, Unread.WRONG_TYPE),
        ({"edits": [{"find": ["4.1"], "replace": "5.9"}]}, Unread.WRONG_TYPE),
        ({"edits": [{"find": "4.1", "replace": "5.\u200b9"}]}, Unread.BAD_UNICODE),
        ({"edits": [{"find": "4.1", "replace": "\ud800"}]}, Unread.BAD_UNICODE),
        ({"find": "4.1"}, Unread.WRONG_TYPE),
    ],
    ids=str,
)
def test_fields_that_hold_no_edits_have_their_reason(fields, why):
    assert read(fields) == why


def test_a_list_and_two_lines_hold_edits():
    listed = read_edits({"edits": [{"find": "in\n 120", "replace": "e\u0301\tx", "why": "?"}]})

    assert listed == [Edit("in 120", "\u00e9 x")]
    assert read_edits({"find": "4.1", "replace": "5.9"}) == [Edit("4.1", "5.9")]


TEXT = st.text(alphabet="ab .", min_size=1, max_size=12)


@given(st.lists(TEXT.map(lambda t: Passage("", t)), min_size=1, max_size=3), TEXT, TEXT)
def test_an_edit_is_made_exactly_where_there_is_one_place(sections, find, replace):
    lines = [" ".join(p.text.split()) for p in sections]
    places = sum(len(re.findall(f"(?={re.escape(find)})", line)) for line in lines)

    if places != 1:
        assert reason([Edit(find, replace)], sections) in (
            Unread.EDIT_NOT_FOUND,
            Unread.EDIT_NOT_UNIQUE,
        )
        return
    edited = [" ".join(line.replace(find, replace).split()) for line in lines]
    assert apply_edits([Edit(find, replace)], sections) == "\n".join(filter(None, edited))
