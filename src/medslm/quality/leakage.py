"""Keep held-out questions out of training: by PMID first, by text as a second net."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from medslm.data.records import Pair, Question
from medslm.errors import DataError, LeakageError
from medslm.quality.text import grams, words

# Runs of eight words: the size at which no two real questions of PQA-L, and no two abstracts, share
# more than a hundredth of their runs, so that whatever is found is no coincidence.
GRAM = 8


class HeldOut:
    """A text of each question of dev and test, so that one lookup costs one text's runs."""

    def __init__(
        self,
        questions: Iterable[Question],
        *,
        text: Callable[[Question], str],
        overlap: float,
    ) -> None:
        """Index ``text`` of ``questions``; another matches at ``overlap`` Jaccard of their runs."""
        self._overlap = overlap
        self._pmids: list[str] = []
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            runs = grams(words(text(question)), GRAM)
            self._pmids.append(question.pmid)
            self._sizes.append(len(runs))
            for run in runs:
                self._holders[run].append(number)

    def has(self, text: str, *, beside: str) -> bool:
        """Tell whether a held-out text is equal to this one or nearly so.

        The one with PMID ``beside`` does not count: with several folds the text's own source is
        held out in one of them, where its pairs are left out of training as well.
        """
        runs = grams(words(text), GRAM)
        shared = Counter(number for run in runs for number in self._holders.get(run, ()))
        return any(
            count >= self._overlap * (len(runs) + self._sizes[number] - count)
            for number, count in shared.items()
            if self._pmids[number] != beside
        )


def require_no_test_source(pairs: Sequence[Pair], test: Sequence[Question]) -> None:
    """Raise LeakageError listing the pairs of a test question's abstract, or of none that is named."""
    homeless = sorted(pair.id for pair in pairs if not pair.pmid.strip())
    if homeless:
        raise LeakageError(
            f"{len(homeless)} pair(s) name no PMID: {', '.join(homeless)}; where they come from "
            "cannot be known: parse again"
        )
    held_out = {question.pmid for question in test}
    leaked = sorted(pair.id for pair in pairs if pair.pmid in held_out)
    if leaked:
        raise LeakageError(
            f"{len(leaked)} pair(s) were generated from test questions: {', '.join(leaked)}; "
            "a teacher may only see the train part: split again, then ask again"
        )


def held_out_question(question: Question) -> str:
    """Return what `HeldOut` indexes to find questions again."""
    return question.question


def held_out_abstract(question: Question) -> str:
    """Return what `HeldOut` indexes to find abstracts again."""
    return question.context


def require_disjoint(
    train: Sequence[Question],
    unlabelled: Sequence[Question],
    dev: Sequence[Question],
    test: Sequence[Question],
) -> None:
    """Raise LeakageError if a source is held out as well, DataError if the sources repeat a PMID.

    Train and dev may share some: with several folds, one's dev questions are another's train ones.
    """
    _require_none_shared("train", train, "test", test)
    _require_none_shared("unlabelled", unlabelled, "dev and test", [*dev, *test])
    times = Counter(q.pmid for q in [*train, *unlabelled])
    repeated = sorted(pmid for pmid, n in times.items() if n > 1)
    if repeated:
        raise DataError(
            f"train and unlabelled repeat {len(repeated)} PMID(s): {', '.join(repeated[:5])}"
        )


def _require_none_shared(
    name: str, part: Sequence[Question], other_name: str, other: Sequence[Question]
) -> None:
    shared = sorted({q.pmid for q in part} & {q.pmid for q in other})
    if shared:
        raise LeakageError(
            f"{name} and {other_name} share {len(shared)} PMID(s), for example "
            f"{', '.join(shared[:5])}; split again"
        )
