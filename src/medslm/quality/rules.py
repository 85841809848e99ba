"""Rules about one generated pair: each is a function that tells whether its reason holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from medslm.data.records import Pair, Question
from medslm.quality import lexicon
from medslm.quality.parse import EDITS_CONTEXT, INHERITS_ANSWER, LABELS_SOURCE
from medslm.quality.text import fold, grams, words
from medslm.quality.wording import has_phrase, near_identical, numbers, plain_number, stems


class Drop(StrEnum):
    """Why a generated pair was not kept. The values appear in files, metrics and reports."""

    NOT_A_QUESTION = "not_a_question"
    NOT_YES_NO = "not_yes_no"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    MARKUP = "markup"
    SECRET = "secret"
    REFUSAL = "refusal"
    MENTIONS_ITS_PROMPT = "mentions_its_prompt"
    ADDRESSES_READER = "addresses_reader"
    REPEATS_ITSELF = "repeats_itself"
    GIVEAWAY = "giveaway"
    OFF_TOPIC = "off_topic"
    COPIES_ITS_SOURCE = "copies_its_source"
    COPIES_CONTEXT = "copies_context"
    CHANGED_NUMBERS = "changed_numbers"
    UNCHANGED_CONTEXT = "unchanged_context"
    EDITS_TOO_MUCH = "edits_too_much"
    UNCHANGED_ANSWER = "unchanged_answer"
    EMPTY_LONG_ANSWER = "empty_long_answer"
    UNSUPPORTED_BY_VOTES = "unsupported_by_votes"
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    LEAKS_HELD_OUT = "leaks_held_out"


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of the rules; params.yaml has the reason of each."""

    min_words: int
    max_words: int
    near_identical: float
    copied_words: int
    min_overlap: float
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
        own = () if self.pair.strategy in _KEEPS_QUESTION else (self.pair.question,)
        return (*own, self.pair.long_answer)

    @property
    def abstracts(self) -> tuple[str, str]:
        """The pair's own abstract, "" without one, and the source's: what only the first has is new."""
        return self.pair.context or "", self.source.context


Rule = Callable[[Case], bool]

_KEEPS_QUESTION = {EDITS_CONTEXT, LABELS_SOURCE}

REPEATED_RUN = (
    4  # comparisons rightly say three words twice ("patients with ... patients with ...")
)


def not_a_question(case: Case) -> bool:
    """Drop text that does not end in its only question mark."""
    question = case.pair.question
    return not question.endswith("?") or question.count("?") > 1


def not_yes_no(case: Case) -> bool:
    """Drop what yes, no or maybe cannot answer.

    A clause has to start with an auxiliary verb, or the text with an opening like "In adults" that
    an auxiliary follows; and no question word may come first.
    """
    clauses = [
        tokens for part in lexicon.CLAUSE_END.split(case.pair.question) if (tokens := words(part))
    ]
    if not clauses or clauses[0][0] in lexicon.ASKS_FOR_MORE:
        return True
    if any(clause[0] in lexicon.AUXILIARIES for clause in clauses):
        return False
    opening = clauses[0]
    asked = (
        opening[0] in lexicon.OPENERS and opening[1:2] and opening[1] not in lexicon.ASKS_FOR_MORE
    )
    return not (asked and any(word in lexicon.AUXILIARIES for clause in clauses for word in clause))


def too_short(case: Case) -> bool:
    """Drop questions with fewer words than any real one."""
    return len(case.pair.question.split()) < case.limits.min_words


def too_long(case: Case) -> bool:
    """Drop questions with more words than a question has."""
    return len(case.pair.question.split()) > case.limits.max_words


def markup(case: Case) -> bool:
    """Drop texts with HTML, Markdown, links or template marks."""
    return _matches(case, lexicon.MARKUP)


def secret(case: Case) -> bool:
    """Drop texts that hold something shaped like a key."""
    return _matches(case, lexicon.SECRET)


def refusal(case: Case) -> bool:
    """Drop a teacher's talk about itself."""
    edited, source = case.abstracts
    return any(has_phrase(text, lexicon.REFUSALS) for text in case.texts) or (
        has_phrase(edited, lexicon.REFUSALS) and not has_phrase(source, lexicon.REFUSALS)
    )


def mentions_its_prompt(case: Case) -> bool:
    """Drop questions about the prompt rather than the study."""
    return has_phrase(case.pair.question, lexicon.PROMPT_WORDS)


def addresses_reader(case: Case) -> bool:
    """Drop questions to the reader: none of 1,500 good replies says "you", small teachers do."""
    return not lexicon.READER.isdisjoint(case.words)


def repeats_itself(case: Case) -> bool:
    """Drop questions that say a run of words twice, as small teachers do when they lose track."""
    asked = case.words
    runs = [asked[start : start + REPEATED_RUN] for start in range(len(asked) - REPEATED_RUN + 1)]
    return len(set(runs)) < len(runs)


def giveaway(case: Case) -> bool:
    """Drop questions that say their answer."""
    question = case.pair.question
    return (
        not lexicon.GIVEAWAY_WORDS.isdisjoint(case.words)
        or has_phrase(question, lexicon.GIVEAWAY_PHRASES)
        or lexicon.REPORTED.search(fold(question)) is not None
    )


def off_topic(case: Case) -> bool:
    """Drop questions most of whose content words occur nowhere in their source."""
    asked = stems(case.pair.question)
    source = case.source
    known = stems(f"{source.question} {source.context} {source.long_answer}")
    return not asked or len(asked & known) / len(asked) < case.limits.min_overlap


def copies_its_source(case: Case) -> bool:
    """Drop the source's question again, whole or nearly."""
    return near_identical(case.words, words(case.source.question), case.limits.near_identical)


def contradicts_its_source(case: Case) -> bool:
    """Drop the source's question with another answer than the gold one, if there is one."""
    return case.source.answer not in (None, case.pair.answer) and copies_its_source(case)


def copies_context(case: Case) -> bool:
    """Drop questions that hold a long run of words of the abstract."""
    size = case.limits.copied_words
    asked = case.words
    if len(asked) < size:
        return False
    return not grams(asked, size).isdisjoint(grams(words(case.source.context), size))


def changed_numbers(case: Case) -> bool:
    """Drop texts with a number that neither question, abstract nor conclusion has."""
    source = case.source
    known = numbers(f"{source.question} {source.context} {source.long_answer}")
    asked = {plain_number(found) for found in lexicon.NUMBER.findall(case.pair.question)}
    return not asked <= known


def unchanged_context(case: Case) -> bool:
    """Drop counterfactuals whose abstract says what the source's says, word for word."""
    return words(case.pair.abstract(case.source)) == words(case.source.context)


def edits_too_much(case: Case) -> bool:
    """Drop counterfactuals that took out or put in too large a share of the abstract's words.

    Words are counted, not their places: what was moved is not new.
    """
    before = Counter(words(case.source.context))
    after = Counter(words(case.pair.abstract(case.source)))
    changed = max((before - after).total(), (after - before).total())
    return changed > case.limits.max_edit_share * before.total()


def unchanged_answer(case: Case) -> bool:
    """Drop counterfactuals that have the gold answer: nothing was turned."""
    return case.pair.answer == case.source.answer


def empty_long_answer(case: Case) -> bool:
    """Drop pairs without a reason for their answer, where params ask for one."""
    return case.limits.require_long_answer and not case.pair.long_answer


def unsupported_by_votes(case: Case) -> bool:
    """Drop pairs whose claimed answer has too many of the verifier's weighted votes against it."""
    bound = case.limits.min_support
    return bound is not None and (case.support is None or case.support < bound)


RULES: dict[Rule, Drop] = {
    not_a_question: Drop.NOT_A_QUESTION,
    not_yes_no: Drop.NOT_YES_NO,
    too_short: Drop.TOO_SHORT,
    too_long: Drop.TOO_LONG,
    markup: Drop.MARKUP,
    secret: Drop.SECRET,
    refusal: Drop.REFUSAL,
    mentions_its_prompt: Drop.MENTIONS_ITS_PROMPT,
    addresses_reader: Drop.ADDRESSES_READER,
    repeats_itself: Drop.REPEATS_ITSELF,
    giveaway: Drop.GIVEAWAY,
    off_topic: Drop.OFF_TOPIC,
    copies_its_source: Drop.COPIES_ITS_SOURCE,
    contradicts_its_source: Drop.CONTRADICTION,
    copies_context: Drop.COPIES_CONTEXT,
    changed_numbers: Drop.CHANGED_NUMBERS,
    unchanged_context: Drop.UNCHANGED_CONTEXT,
    edits_too_much: Drop.EDITS_TOO_MUCH,
    unchanged_answer: Drop.UNCHANGED_ANSWER,
    empty_long_answer: Drop.EMPTY_LONG_ANSWER,
    unsupported_by_votes: Drop.UNSUPPORTED_BY_VOTES,
}

# Every teacher writes a reason and makes a claim. A real question needs no check of its wording,
# but among unlabelled ones are some that yes, no or maybe cannot answer.
_ANY = {markup, secret, refusal, empty_long_answer, unsupported_by_votes}
_EDITED = {unchanged_context, edits_too_much, unchanged_answer}
_SHAPE = {not_a_question, not_yes_no, too_short, too_long}
_RULES_OF: dict[str, set[Rule]] = {
    INHERITS_ANSWER: set(RULES) - _EDITED,
    "new": set(RULES) - _EDITED - {changed_numbers},
    EDITS_CONTEXT: _ANY | _EDITED,
    LABELS_SOURCE: _ANY | _SHAPE | {contradicts_its_source},
}


def reasons(case: Case) -> set[Drop]:
    """Return every reason to drop the pair, by the rules that make sense for its strategy."""
    return {RULES[rule] for rule in _RULES_OF[case.pair.strategy] if rule(case)}


def _matches(case: Case, shape: re.Pattern[str]) -> bool:
    """Tell whether a text has the shape, or an edited abstract has it where the source's has not."""
    edited, source = case.abstracts
    new = edited and set(shape.findall(edited)) - set(shape.findall(source))
    return bool(new) or any(shape.search(text) for text in case.texts)
