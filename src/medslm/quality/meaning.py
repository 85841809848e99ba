"""What a teacher has to leave as it is: language, denials, directions, names, who was studied."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from medslm.quality import lexicon
from medslm.quality.text import fold, words

_CLIPPED = re.compile(r"n['\u2019]t\b", re.IGNORECASE)
_CODE = re.compile(r"[^\W_]+")
_SMALL_WORDS = lexicon.AUXILIARIES | lexicon.ENGLISH
_LONGEST_STAGE = 3  # characters
_LONG_NAME = 4  # characters
_ROMAN = re.compile(r"[IVX]+")
_SHOWS_ITS_LANGUAGE = 10  # words; shorter texts may be all names and figures


def is_english(text: str) -> bool:
    """Tell whether a text is English: its letters, and the small words that hold it together.

    Names in another language are common ("en bloc", "de novo"), so foreign small words have to
    outnumber the English ones. A text of ten words has some English one.
    """
    if not text.isascii():
        plain = unicodedata.normalize("NFKC", text)
        if any(char.isalpha() and _is_foreign(char) for char in plain):
            return False
    tokens = words(text)
    english = sum(word in lexicon.ENGLISH for word in tokens)
    foreign = sum(word in lexicon.FOREIGN for word in tokens)
    spelled = sum(len(word) > 1 and word.isalpha() for word in tokens)
    return foreign <= english and (english > 0 or spelled < _SHOWS_ITS_LANGUAGE)


def denies(text: str) -> bool:
    """Tell whether a text denies as a whole: not, never, n't."""
    folded = lexicon.NO_DENIAL.sub(" ", fold(text))
    return _CLIPPED.search(text) is not None or not lexicon.DENIALS.isdisjoint(folded.split())


def may_deny(text: str) -> bool:
    """Tell whether anything in a text could stand for a denial: without, failed, undescended."""
    return denies(text) or any(
        word in lexicon.NEGATIONS or lexicon.NEGATIVE_BEGINNING.match(word) for word in words(text)
    )


def turned(text: str, source: str) -> bool:
    """Tell whether one says more, better, earlier, ... only and the other less, worse, later, ... only."""
    one, other = fold(text), fold(source)
    return any(
        {_sides(pair, one), _sides(pair, other)} == {(True, False), (False, True)}
        for pair in lexicon.DIRECTIONS
    )


def people(text: str) -> dict[str, frozenset[str]]:
    """Return who a text speaks of, by sex and by age."""
    said = set(words(text))
    return {
        trait: frozenset(group for group, theirs in groups.items() if not said.isdisjoint(theirs))
        for trait, groups in lexicon.PEOPLE.items()
    }


def other_people(text: str, source: str, known: str) -> bool:
    """Tell whether ``text`` is about a sex or an age in place of another.

    That is one which ``known``, all there is of the study, lacks while it has another; or one that
    its question, ``source``, lacks while ``text`` lacks one of the question's.
    """
    there, asked = people(known), people(source)
    return any(
        bool(there[trait] and groups - there[trait])
        or bool(asked[trait] - groups and groups - asked[trait])
        for trait, groups in people(text).items()
    )


def unknown_names(text: str, known: str) -> set[str]:
    """Return what ``text`` names and ``known`` does not: as a word, inside one, or by initials.

    Two or three letters stand in some word or other of any study ("ct" in "effect"), so a name as
    short as that has to be words of its own or the initials of a whole expression.
    """
    there, squeezed, initials = _forms(known)
    return {
        name
        for name in _names(text)
        if name not in there
        and (
            name not in _short_forms(known)
            if len(name) < _LONG_NAME
            else name not in initials and name not in squeezed
        )
    }


def _sides(pair: tuple[re.Pattern[str], re.Pattern[str]], folded: str) -> tuple[bool, bool]:
    one, other = pair
    return one.search(folded) is not None, other.search(folded) is not None


def _names(text: str) -> set[str]:
    """Return acronyms, codes and drugs in one form: lower case and singular."""
    found = {_singular(token) for token in _CODE.findall(text) if _is_code(token)}
    return found | {word for token in words(text) if _is_drug(word := _singular(token))}


@lru_cache(maxsize=2048)
def _forms(text: str) -> tuple[frozenset[str], str, str]:
    """Return the words of a text, the text without blanks, and the first letters of its words."""
    tokens = words(text)
    singular = {_singular(word) for word in tokens}
    return frozenset({*tokens, *singular}), "".join(tokens), "".join(word[0] for word in tokens)


@lru_cache(maxsize=2048)
def _short_forms(text: str) -> frozenset[str]:
    """Return what a short name can stand for: "IL 6", "MR imaging" and, by initials, "quality of life".

    An expression begins and ends with a word that is no small one.
    """
    tokens = words(text)
    found = set()
    for size in range(2, _LONG_NAME):
        for start in range(len(tokens) - size + 1):
            run = tokens[start : start + size]
            found.add("".join(run))
            if not {run[0], run[-1]} & _SMALL_WORDS:
                initials = "".join(word[0] for word in run)
                found |= {initials, run[0] + initials[1:]}
    return frozenset(name for name in found if len(name) < _LONG_NAME)


def _is_code(token: str) -> bool:
    """Tell whether a token is an acronym or a code: two capitals, or one and digits.

    Stages and vertebrae (T1a, L4) are no names: a reason may list those that a table has.
    """
    capitals = sum(char.isupper() for char in token)
    if token.casefold() in _SMALL_WORDS:
        return False
    coded = capitals >= 2 or (
        capitals == 1 and len(token) > _LONGEST_STAGE and any(char.isdigit() for char in token[1:])
    )
    return coded and not token[0].isdigit() and _ROMAN.fullmatch(token) is None


def _is_drug(word: str) -> bool:
    return (
        len(word) >= lexicon.SHORTEST_DRUG
        and word.endswith(lexicon.DRUG_STEMS)
        and word not in lexicon.NO_DRUGS
    )


def _singular(word: str) -> str:
    folded = fold(word)
    return folded.removesuffix("s") if len(folded) > 2 else folded


def _is_foreign(letter: str) -> bool:
    """Tell whether a letter is neither Latin nor Greek, which cells and measures are named with."""
    return not unicodedata.name(letter, "").startswith(("LATIN", "GREEK", "MODIFIER"))
