"""Rules about one generated pair: each is a function that tells whether its reason holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from medslm.quality import lexicon, meaning
from medslm.quality.case import Case as Case
from medslm.quality.case import Drop as Drop
from medslm.quality.case import Limits as Limits
from medslm.quality.parse import EDITS_CONTEXT, INHERITS_ANSWER, LABELS_SOURCE
from medslm.quality.text import fold, is_safe, words
from medslm.quality.wording import (
    cardinals,
    exchanged,
    has_phrase,
    near_identical,
    numbers,
    ordinals,
    plain_number,
    stems,
)

Rule = Callable[[Case], bool]

REPEATED_RUN = (
    4  # comparisons rightly say three words twice ("patients with ... patients with ...")
)


def wrong_source(case: Case) -> bool:
    """Drop pairs whose id names another source than they say they have.

    `parse` makes ids of ask, PMID and index; where the two differ, a file was mixed up later.
    """
    return case.pair.id.split(":")[-2:-1] != [case.pair.pmid]


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


def not_english(case: Case) -> bool:
    """Drop texts in another language or script."""
    return not all(meaning.is_english(text) for text in case.texts)


def bad_unicode(case: Case) -> bool:
    """Drop texts with characters that no reader sees; `parse` refuses them, other files may not."""
    return not all(is_safe(text) for text in (*case.texts, case.pair.context or ""))


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
    known = stems(case.known)
    return not asked or len(asked & known) / len(asked) < case.limits.min_overlap


def answer_not_in_context(case: Case) -> bool:
    """Drop pairs whose question and reason together speak of another study than their source.

    Without a reason there is nothing to compare.
    """
    if not case.pair.long_answer:
        return False
    said = stems(f"{case.pair.question} {case.pair.long_answer}")
    return len(said & stems(case.known)) < case.limits.min_grounding * len(said)


def says_another_answer(case: Case) -> bool:
    """Drop pairs whose reason begins with another answer than the one they claim: "No, ..."."""
    begins = lexicon.BEGINS_WITH_ANSWER.match(case.pair.long_answer)
    return begins is not None and begins.group(1).casefold() != case.pair.answer


def unknown_names(case: Case) -> bool:
    """Drop texts with an acronym, a code or a drug that the source does not know."""
    return any(meaning.unknown_names(text, case.known) for text in case.texts)


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
    context = f" {fold(case.source.context)} "
    return any(
        f" {' '.join(asked[start : start + size])} " in context
        for start in range(len(asked) - size + 1)
    )


def changed_numbers(case: Case) -> bool:
    """Drop questions with a number that the study lacks, or with one in place of the source's own.

    A number that is only left out, or only added from the abstract, is no change; nor is a count in
    place of a rank: "the first trimester" is "11 to 14 weeks".
    """
    asked, source = case.pair.question, case.source.question
    digits = {plain_number(found) for found in lexicon.NUMBER.findall(asked)}
    return (
        not digits <= numbers(case.known)
        or exchanged(cardinals(asked), cardinals(source))
        or exchanged(ordinals(asked), ordinals(source))
    )


def changed_negation(case: Case) -> bool:
    """Drop rewrites that deny what the source asks, or the other way round.

    Only a denial counts for which the other text has nothing that could mean the same.
    """
    asked, source = case.pair.question, case.source.question
    return (meaning.denies(asked) and not meaning.may_deny(source)) or (
        meaning.denies(source) and not meaning.may_deny(asked)
    )


def changed_direction(case: Case) -> bool:
    """Drop rewrites that ask for less where the source asks for more, for worse where for better, …

    Where a question has both sides of a pair of words, it cannot be told which was turned.
    """
    return meaning.turned(case.pair.question, case.source.question)


def changed_people(case: Case) -> bool:
    """Drop rewrites about men where the source is about women, about old people for children, …"""
    return meaning.other_people(case.pair.question, case.source.question, case.known)


def changed_answer(case: Case) -> bool:
    """Drop rewrites with another answer than the gold one: a rewrite keeps it."""
    return case.pair.answer != case.source.answer


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
    wrong_source: Drop.WRONG_SOURCE,
    not_a_question: Drop.NOT_A_QUESTION,
    not_yes_no: Drop.NOT_YES_NO,
    too_short: Drop.TOO_SHORT,
    too_long: Drop.TOO_LONG,
    not_english: Drop.NOT_ENGLISH,
    bad_unicode: Drop.BAD_UNICODE,
    markup: Drop.MARKUP,
    secret: Drop.SECRET,
    refusal: Drop.REFUSAL,
    mentions_its_prompt: Drop.MENTIONS_ITS_PROMPT,
    addresses_reader: Drop.ADDRESSES_READER,
    repeats_itself: Drop.REPEATS_ITSELF,
    giveaway: Drop.GIVEAWAY,
    off_topic: Drop.OFF_TOPIC,
    answer_not_in_context: Drop.ANSWER_NOT_IN_CONTEXT,
    says_another_answer: Drop.SAYS_ANOTHER_ANSWER,
    unknown_names: Drop.UNKNOWN_NAMES,
    copies_its_source: Drop.COPIES_ITS_SOURCE,
    contradicts_its_source: Drop.CONTRADICTION,
    copies_context: Drop.COPIES_CONTEXT,
    changed_numbers: Drop.CHANGED_NUMBERS,
    changed_negation: Drop.CHANGED_NEGATION,
    changed_direction: Drop.CHANGED_DIRECTION,
    changed_people: Drop.CHANGED_PEOPLE,
    changed_answer: Drop.CHANGED_ANSWER,
    unchanged_context: Drop.UNCHANGED_CONTEXT,
    edits_too_much: Drop.EDITS_TOO_MUCH,
    unchanged_answer: Drop.UNCHANGED_ANSWER,
    empty_long_answer: Drop.EMPTY_LONG_ANSWER,
    unsupported_by_votes: Drop.UNSUPPORTED_BY_VOTES,
}

# Every teacher writes a reason and makes a claim. A real question needs no check of its wording,
# but among unlabelled ones are some that yes, no or maybe cannot answer.
_ANY = {
    *(wrong_source, bad_unicode, not_english, markup, secret, refusal, says_another_answer),
    *(empty_long_answer, unsupported_by_votes),
}
_EDITED = {unchanged_context, edits_too_much, unchanged_answer}
_REWRITTEN = {
    *(changed_numbers, changed_negation, changed_direction, changed_people, changed_answer),
}
_SHAPE = {not_a_question, not_yes_no, too_short, too_long}
_RULES_OF: dict[str, set[Rule]] = {
    INHERITS_ANSWER: set(RULES) - _EDITED,
    "new": set(RULES) - _EDITED - _REWRITTEN,
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
