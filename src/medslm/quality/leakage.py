"""Keep held-out questions out of training: by PMID first, by text as a second net."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from medslm.data.records import Pair, Question
from medslm.errors import DataError, LeakageError
from medslm.quality.text import grams, words

# Runs of eight words: the size at which no two real questions of PQA-L share more than a hundredth
# of their runs, so that whatever is found comes from generation.
GRAM = 8


class HeldOut:
    """The questions of dev and test, indexed so that one lookup costs one question's runs."""

    def __init__(self, questions: Iterable[Question], *, overlap: float) -> None:
        """Index ``questions``; a text matches at ``overlap`` Jaccard of its runs, or when equal."""
        self._overlap = overlap
        self._pmids: list[str] = []
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            runs = grams(words(question.question), GRAM)
            self._pmids.append(question.pmid)
            self._sizes.append(len(runs))
            for run in runs:
                self._holders[run].append(number)

    def has(self, question: str, *, beside: str) -> bool:
        """Tell whether a held-out question is equal to this text or nearly so.

        The one with PMID ``beside`` does not count: with several folds the text's own source is
        held out in one of them, where its pairs are left out of training as well.
        """
        runs = grams(words(question), GRAM)
        shared = Counter(number for run in runs for number in self._holders.get(run, ()))
        return any(
            count >= self._overlap * (len(runs) + self._sizes[number] - count)
            for number, count in shared.items()
            if self._pmids[number] != beside
        )


def require_no_test_source(pairs: Sequence[Pair], test: Sequence[Question]) -> None:
    """Raise LeakageError listing the pairs that were generated from a test question's abstract."""
    held_out = {question.pmid for question in test}
    leaked = sorted(pair.id for pair in pairs if pair.pmid in held_out)
    if leaked:
        raise LeakageError(
            f"{len(leaked)} pair(s) were generated from test questions: {', '.join(leaked)}; "
            "a teacher may only see the train part: split again, then ask again"
        )


def require_disjoint(train: Sequence[Question], test: Sequence[Question]) -> None:
    """Raise LeakageError if train and test share a PMID, DataError if train repeats one.

    Train and dev may share some: with several folds, one's dev questions are another's train ones.
    """
    shared = sorted({q.pmid for q in train} & {q.pmid for q in test})
    if shared:
        raise LeakageError(
            f"train and test share {len(shared)} PMID(s), for example {', '.join(shared[:5])}; "
            "split again"
        )
    repeated = sorted(pmid for pmid, n in Counter(q.pmid for q in train).items() if n > 1)
    if repeated:
        raise DataError(f"train repeats {len(repeated)} PMID(s): {', '.join(repeated[:5])}")
