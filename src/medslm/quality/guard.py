"""Keep what dev and test ask, tell and conclude out of the generated pairs, by text.

PMIDs are the first net (see ``leakage``). This one compares texts in five ways: the same words,
long runs of words, a held-out text inside a longer one, letters (a copy with words exchanged) and,
on request, sentence vectors (a paraphrase). What is as good as a copy is a hit, what is merely
close is near. A hit on test stops everything, since then something upstream is wrong; all else is
quarantined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from medslm.data.records import Pair, Question
from medslm.errors import LeakageError
from medslm.quality.nearness import RUN, LetterIndex, Near, RunIndex, WholeIndex
from medslm.quality.text import fold, words

if TYPE_CHECKING:
    import numpy as np

    Vectors = np.ndarray[Any, np.dtype[np.float32]]
    Embed = Callable[[Sequence[str]], Vectors]

TEST, DEV = "test", "dev"
_RUNS, _INSIDE = "runs of words", "holds its words"
_LISTED_SCORE = 2  # digits
_DIGITS = 4  # of a cosine: fewer than rounding in a batch could change
_ROWS = 4096  # pairs compared at once: 4,096 x 1,000 cosines are 16 MB

# "There was no significant difference between the two groups" stands in many abstracts: as few runs
# of eight words, or so short a text, say nothing, whatever share of it they are.
_RUNS_OF_A_NEAR_ONE = 3  # ten words in one piece
_RUNS_OF_A_HIT = 8  # fifteen
_WORDS_OF_ITS_OWN = 12
# A question with fewer words has too few runs to be found by them: it has to be there as a whole.
_SHORT = RUN + _RUNS_OF_A_NEAR_ONE - 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on a text is a copy of a held-out one (hit) or close to it (near); see params.yaml."""

    hit_letters: float
    near_letters: float
    hit_runs: float
    near_runs: float
    hit_cosine: float
    near_cosine: float


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A pair, the held-out study that it resembles, and how: the measure and its value."""

    pair_id: str
    part: str
    pmid: str
    how: str
    share: float
    hit: bool


class _Text(NamedTuple):
    """A text of a held-out study."""

    part: str
    pmid: str
    text: str


class Guard:
    """The texts of dev and test, indexed once for all pairs."""

    def __init__(
        self,
        dev: Sequence[Question],
        test: Sequence[Question],
        bounds: Bounds,
        embed: Embed | None = None,
    ) -> None:
        """Index questions, abstracts and conclusions; ``embed`` adds the comparison of vectors."""
        studies = [(TEST, q) for q in test] + [(DEV, q) for q in dev]
        self._bounds = bounds
        self._asked = [_Text(part, q.pmid, q.question) for part, q in studies]
        self._told = [
            _Text(part, q.pmid, text)
            for part, q in studies
            for text in (q.question, q.long_answer, q.context)
            if text
        ]
        self._concluded = [
            _Text(part, q.pmid, f"{q.question} {q.long_answer}") for part, q in studies
        ]
        self._same: defaultdict[str, list[_Text]] = defaultdict(list)
        for text in self._told:
            self._same[fold(text.text)].append(text)
        self._runs = RunIndex([text.text for text in self._told])
        self._short = [text for text in self._asked if len(words(text.text)) < _SHORT]
        self._whole = WholeIndex([text.text for text in self._short])
        self._letters = LetterIndex([text.text for text in self._asked], bounds.near_letters)
        self._embed = embed

    def matches(self, pairs: Sequence[Pair], unlabelled: Sequence[Question] = ()) -> list[Match]:
        """Return the strongest match of every pair that has one, in the order of the pairs.

        A pair about an ``unlabelled`` study has that study's abstract among its texts: it may be a
        held-out one under another PMID. A pair's own study never counts: with several folds it is
        held out in one of them, and its pairs are left out of that fold's training by PMID.
        """
        abstracts = {study.pmid: study.context for study in unlabelled}
        found: defaultdict[str, list[Match]] = defaultdict(list)
        for pair in pairs:
            for match in self._by_text(pair, abstracts.get(pair.pmid)):
                found[pair.id].append(match)
        for match in self._by_vector(pairs):
            found[match.pair_id].append(match)
        return [max(found[pair.id], key=_strength) for pair in pairs if found[pair.id]]

    def _by_text(self, pair: Pair, abstract: str | None) -> Iterator[Match]:
        bounds = self._bounds
        for text in filter(None, (pair.question, pair.long_answer, pair.context, abstract)):
            tells = text == pair.question or len(fold(text).split()) >= _WORDS_OF_ITS_OWN
            for known in self._same.get(fold(text), ()) if tells else ():
                if known.pmid != pair.pmid:
                    yield Match(pair.id, known.part, known.pmid, "same words", 1.0, hit=True)
            for near in self._runs.near(text, bounds.near_runs, bounds.hit_runs):
                known = self._told[near.number]
                if known.pmid != pair.pmid and near.runs >= _RUNS_OF_A_NEAR_ONE:
                    yield self._by_runs(pair, known, near)
            for number in self._whole.within(text):
                known = self._short[number]
                if known.pmid != pair.pmid:
                    yield Match(pair.id, known.part, known.pmid, _INSIDE, 1.0, hit=True)
        for near in self._letters.near(pair.question):
            known = self._asked[near.number]
            if known.pmid != pair.pmid:
                hit = near.share >= bounds.hit_letters
                yield Match(pair.id, known.part, known.pmid, "letters", near.share, hit)

    def _by_runs(self, pair: Pair, known: _Text, near: Near) -> Match:
        """Return a hit for half a held-out text, however short, but for half a pair's only if that is much.

        A short reason may be all common speech. In a long text a whole question is a small share.
        """
        bound = self._bounds.hit_runs
        if near.held >= bound:
            return Match(pair.id, known.part, known.pmid, _INSIDE, near.held, hit=True)
        hit = near.share >= bound and near.runs >= _RUNS_OF_A_HIT
        return Match(pair.id, known.part, known.pmid, _RUNS, near.share, hit)

    def _by_vector(self, pairs: Sequence[Pair]) -> Iterator[Match]:
        """Compare questions with questions, and with their reasons questions with their conclusions.

        A faithful paraphrase keeps the meaning of the two together better than that of the question,
        and two studies of one subject are further apart.
        """
        if self._embed is None or not pairs:
            return
        yield from self._close(self._embed, [(p, p.question) for p in pairs], self._asked)
        reasoned = [(p, f"{p.question} {p.long_answer}") for p in pairs if p.long_answer]
        yield from self._close(self._embed, reasoned, self._concluded)

    def _close(
        self, embed: Embed, rows: Sequence[tuple[Pair, str]], known: Sequence[_Text]
    ) -> Iterator[Match]:
        if not rows or not known:
            return
        theirs = embed([text.text for text in known])
        ours = embed([text for _, text in rows])
        for start in range(0, len(rows), _ROWS):
            cosines = (ours[start : start + _ROWS] @ theirs.T).round(_DIGITS)
            for row, column in zip(*(cosines >= self._bounds.near_cosine).nonzero(), strict=True):
                pair, text = rows[start + int(row)][0], known[int(column)]
                if text.pmid == pair.pmid:
                    continue
                share = round(float(cosines[row, column]), _DIGITS)
                hit = share >= self._bounds.hit_cosine
                yield Match(pair.id, text.part, text.pmid, "meaning", share, hit)


def require_no_test_hit(matches: Sequence[Match], acknowledged: frozenset[str]) -> None:
    """Raise LeakageError listing the pairs that repeat a test study.

    ``acknowledged`` are ids that a person has looked at: they are quarantined and stop nothing.
    """
    hits = [m for m in matches if m.hit and m.part == TEST and m.pair_id not in acknowledged]
    if hits:
        listed = ", ".join(
            f"{m.pair_id} (test PMID {m.pmid}, {m.how} {m.share:.{_LISTED_SCORE}f})"
            for m in sorted(hits)
        )
        raise LeakageError(
            f"{len(hits)} pair(s) repeat test questions, abstracts or conclusions: {listed}; find out "
            "how they got there, or list them in quality.leakage.acknowledged to quarantine them"
        )


def counted(matches: Sequence[Match]) -> Mapping[str, int]:
    """Return how many pairs resemble each part, hits and near ones apart, for the metrics."""
    kinds = {f"{part}_{kind}": 0 for part in (DEV, TEST) for kind in ("hits", "near")}
    for match in matches:
        kinds[f"{match.part}_{'hits' if match.hit else 'near'}"] += 1
    return kinds


def _strength(match: Match) -> tuple[bool, bool, float, str, str]:
    """Hits before near ones, test before dev; the rest only makes the order total."""
    return match.hit, match.part == TEST, match.share, match.pmid, match.how
