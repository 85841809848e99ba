"""Rules about one generated pair: each is a function that tells whether its reason holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from medslm.data.records import Pair, Question
from medslm.quality import lexicon
from medslm.quality.parse import INHERITS_ANSWER
from medslm.quality.text import fold, grams, jaccard, words


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


@dataclass(frozen=True, slots=True)
class Case:
    """A pair with what it is judged against.

    ``support`` is the probability a verifier gave to the claimed answer, None where none was asked.
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
    def texts(self) -> tuple[str, str]:
        """Both generated texts."""
        return self.pair.question, self.pair.long_answer


Rule = Callable[[Case], bool]

REPEATED_RUN = (
    4  # comparisons rightly say three words twice ("patients with ... patients with ...")
)
SAME_QUESTION_GRAM = 3  # runs of three words: order counts, one exchanged word costs three runs

_STEM = 5  # letters; enough to match reduce, reduced and reduction
_CONTENT_WORD = 4  # letters; shorter words are mostly grammar


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
    return any(lexicon.MARKUP.search(text) for text in case.texts)


def secret(case: Case) -> bool:
    """Drop texts that hold something shaped like a key."""
    return any(lexicon.SECRET.search(text) for text in case.texts)


def refusal(case: Case) -> bool:
    """Drop a teacher's talk about itself."""
    return any(_has_phrase(text, lexicon.REFUSALS) for text in case.texts)


def mentions_its_prompt(case: Case) -> bool:
    """Drop questions about the prompt rather than the study."""
    return _has_phrase(case.pair.question, lexicon.PROMPT_WORDS)


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
        or _has_phrase(question, lexicon.GIVEAWAY_PHRASES)
        or lexicon.REPORTED.search(fold(question)) is not None
    )


def off_topic(case: Case) -> bool:
    """Drop questions most of whose content words occur nowhere in their source."""
    asked = _stems(case.pair.question)
    source = case.source
    known = _stems(f"{source.question} {source.context} {source.long_answer}")
    return not asked or len(asked & known) / len(asked) < case.limits.min_overlap


def copies_its_source(case: Case) -> bool:
    """Drop the source's question again, whole or nearly."""
    return near_identical(case.words, words(case.source.question), case.limits.near_identical)


def contradicts_its_source(case: Case) -> bool:
    """Drop the source's question with another answer than the gold one."""
    return case.pair.answer != case.source.answer and copies_its_source(case)


def copies_context(case: Case) -> bool:
    """Drop questions that hold a long run of words of the abstract."""
    size = case.limits.copied_words
    asked = case.words
    if len(asked) < size:
        return False
    return not grams(asked, size).isdisjoint(grams(words(case.source.context), size))


def changed_numbers(case: Case) -> bool:
    """Drop rewrites with a number that neither question, abstract nor conclusion has."""
    source = case.source
    known = _numbers(f"{source.question} {source.context} {source.long_answer}")
    asked = {_plain(found) for found in lexicon.NUMBER.findall(case.pair.question)}
    return case.pair.strategy == INHERITS_ANSWER and not asked <= known


def empty_long_answer(case: Case) -> bool:
    """Drop pairs without a reason for their answer, where params ask for one."""
    return case.limits.require_long_answer and not case.pair.long_answer


def unsupported_by_votes(case: Case) -> bool:
    """Drop pairs whose claimed answer has too little of the verifier's probability."""
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
    empty_long_answer: Drop.EMPTY_LONG_ANSWER,
    unsupported_by_votes: Drop.UNSUPPORTED_BY_VOTES,
}


def reasons(case: Case) -> set[Drop]:
    """Return every reason to drop the pair."""
    return {reason for rule, reason in RULES.items() if rule(case)}


def near_identical(one: tuple[str, ...], other: tuple[str, ...], bound: float) -> bool:
    """Tell whether two texts have the same words, or share ``bound`` of their three-word runs."""
    if one == other:
        return True
    overlap = jaccard(grams(one, SAME_QUESTION_GRAM), grams(other, SAME_QUESTION_GRAM))
    return overlap >= bound


def _has_phrase(text: str, phrases: tuple[str, ...]) -> bool:
    folded = f" {fold(text)} "
    return any(f" {phrase} " in folded for phrase in phrases)


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in words(text) if len(word) >= _CONTENT_WORD or word.isdigit()}


def _numbers(text: str) -> set[str]:
    digits = {_plain(found) for found in lexicon.NUMBER.findall(text)}
    return digits | {
        lexicon.NUMBER_WORDS[word] for word in words(text) if word in lexicon.NUMBER_WORDS
    }


def _plain(number: str) -> str:
    """Return a number without thousands commas and trailing zeros: 1,200 is 1200, 4.10 is 4.1."""
    head, comma, tail = number.rpartition(",")
    text = number.replace(",", "") if len(tail) == 3 or not comma else f"{head}.{tail}"
    return text.rstrip("0").rstrip(".") if "." in text else text
