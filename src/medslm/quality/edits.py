"""The edits of a counterfactual: where they are in the abstract, and what it becomes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from medslm.data.records import Passage
from medslm.quality.fields import CannotReadError, Unread
from medslm.quality.text import is_safe

_BLANKS = re.compile(r"\s+")


class Edit(NamedTuple):
    """A piece of an abstract and what stands in its place."""

    find: str
    replace: str


def read_edits(fields: dict[str, object]) -> list[Edit]:
    """Return the edits of a reply's fields: a JSON list, or the two lines of a completion."""
    rows = fields.get("edits")
    if rows is None and "find" in fields:
        rows = [{"find": fields["find"], "replace": fields.get("replace")}]
    if rows is None or rows == []:
        raise CannotReadError(Unread.NO_EDITS)
    if not isinstance(rows, list):
        raise CannotReadError(Unread.WRONG_TYPE)
    return [_edit(row) for row in rows]


def apply_edits(edits: Sequence[Edit], sections: Sequence[Passage]) -> str:
    """Return the abstract with all edits made, each passage on a line of its own.

    Each ``find`` has to occur exactly once in the whole abstract, blanks of any kind counting as
    one space, and no two may overlap: else it is not known what was meant, and nothing is guessed.
    """
    passages = [" ".join(passage.text.split()) for passage in sections]
    placed = sorted((*_place(edit.find, passages), edit) for edit in edits)
    made = [""] * len(passages)
    done = [0] * len(passages)
    for number, start, edit in placed:
        if start < done[number]:
            raise CannotReadError(Unread.EDITS_OVERLAP)
        made[number] += passages[number][done[number] : start] + edit.replace
        done[number] = start + len(edit.find)
    whole = (made[n] + passages[n][done[n] :] for n in range(len(passages)))
    return "\n".join(text for line in whole if (text := " ".join(line.split())))


def _edit(row: object) -> Edit:
    if not isinstance(row, dict):
        raise CannotReadError(Unread.WRONG_TYPE)
    find, replace = row.get("find"), row.get("replace")
    if not isinstance(find, str) or not isinstance(replace, str):
        raise CannotReadError(Unread.WRONG_TYPE)
    if not is_safe(replace):  # JSON escapes may hide what the raw reply did not show
        raise CannotReadError(Unread.BAD_UNICODE)
    return Edit(_BLANKS.sub(" ", find), _BLANKS.sub(" ", unicodedata.normalize("NFC", replace)))


def _place(find: str, passages: Sequence[str]) -> tuple[int, int]:
    """Return the passage and the position where the text is."""
    places: list[tuple[int, int]] = []
    for number, passage in enumerate(passages):
        start = passage.find(find)
        while find and start >= 0 and len(places) < 2:
            places.append((number, start))
            start = passage.find(find, start + 1)
    if not places:
        raise CannotReadError(Unread.EDIT_NOT_FOUND)
    if len(places) > 1:
        raise CannotReadError(Unread.EDIT_NOT_UNIQUE)
    return places[0]
