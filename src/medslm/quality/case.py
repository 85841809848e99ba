"""What a rule looks at: a pair with its source and the knobs; and the names of what it may find."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medslm.data.records import Pair, Question
from medslm.quality.parse import EDITS_CONTEXT, LABELS_SOURCE
from medslm.quality.text import words

KEEPS_QUESTION = {EDITS_CONTEXT, LABELS_SOURCE}  # strategies whose question is the source's own


class Drop(StrEnum):
    """Why a generated pair was not kept. The values appear in files, metrics and reports."""

    WRONG_SOURCE = "wrong_source"
    NOT_A_QUESTION = "not_a_question"
    NOT_YES_NO = "not_yes_no"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NOT_ENGLISH = "not_english"
    BAD_UNICODE = "bad_unicode"
    MARKUP = "markup"
    SECRET = "secret"
    REFUSAL = "refusal"
    MENTIONS_ITS_PROMPT = "mentions_its_prompt"
    ADDRESSES_READER = "addresses_reader"
    REPEATS_ITSELF = "repeats_itself"
    GIVEAWAY = "giveaway"
    OFF_TOPIC = "off_topic"
    ANSWER_NOT_IN_CONTEXT = "answer_not_in_context"
    SAYS_ANOTHER_ANSWER = "says_another_answer"
    UNKNOWN_NAMES = "unknown_names"
    COPIES_ITS_SOURCE = "copies_its_source"
    COPIES_CONTEXT = "copies_context"
    CHANGED_NUMBERS = "changed_numbers"
    CHANGED_NEGATION = "changed_negation"
    CHANGED_DIRECTION = "changed_direction"
    CHANGED_PEOPLE = "changed_people"
    CHANGED_ANSWER = "changed_answer"
    UNCHANGED_CONTEXT = "unchanged_context"
    EDITS_TOO_MUCH = "edits_too_much"
    UNCHANGED_ANSWER = "unchanged_answer"
    EMPTY_LONG_ANSWER = "empty_long_answer"
    UNSUPPORTED_BY_VOTES = "unsupported_by_votes"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    CONTRADICTION = "contradiction"
    DOUBTED_LABEL = "doubted_label"
    LEAKS_HELD_OUT = "leaks_held_out"
    DROPPED_BY_REVIEWER = "dropped_by_reviewer"


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of the rules; params.yaml has the reason of each."""

    min_words: int
    max_words: int
    near_identical: float
    near_duplicate: float
    copied_words: int
    min_overlap: float
    min_grounding: float
    require_long_answer: bool
    min_support: float | None
    leak_overlap: float
    max_edit_share: float


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with what it is judged against.

    ``support`` is how far a verifier's votes let the claim stand, None where none was asked.
    """

    pair: Pair
    source: Question
    support: float | None
    limits: Limits

    @property
    def words(self) -> tuple[str, ...]:
        """The question's words."""
        return words(self.pair.question)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that a teacher wrote; a question that is the source's own is not one."""
        own = () if self.pair.strategy in KEEPS_QUESTION else (self.pair.question,)
        return (*own, self.pair.long_answer)

    @property
    def known(self) -> str:
        """All that the teacher was shown of the study."""
        return f"{self.source.question} {self.source.context} {self.source.long_answer}"

    @property
    def abstracts(self) -> tuple[str, str]:
        """The pair's own abstract, "" without one, and the source's: what only the first has is new."""
        return self.pair.context or "", self.source.context
