"""Cut the questions into ten cross-validation folds and a test half, exactly as PubMedQA's authors did.

Source of the algorithm: github.com/pubmedqa/pubmedqa, preprocess/split_dataset.py, run under Python 3.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from medslm.data.records import ANSWERS, Answer, Question
from medslm.errors import DataError, LeakageError, ParamsError
from medslm.files import read_json, write_json
from medslm.params import Section

FOLDS = 10
_SEED = 0  # the authors' seed; another one is another benchmark

# sha256 of sorted PMIDs joined by newlines: all 1,000 of PQA-L (tells that the file is PQA-L),
# and the 500 of the official test set (data/test_ground_truth.json).
PQAL_PMIDS_SHA256 = "7a6c316c94747ae97a9f55b7d28908884db6bf7cf13fcce4b969943c9cb1cf94"
OFFICIAL_TEST_SHA256 = "406e3b89eff577ed38571eca5a5819734a6f49ac0437d171b6c64e5c3cd195f8"

Labelled = tuple[str, Answer | None]


class Unlabelled(NamedTuple):
    """Questions without answers that may be used, and how many may not as they have a label."""

    questions: list[Question]
    labelled: int


class SplitParams(Section):
    """Knobs of the `split` stage; params.yaml says what each one does."""

    protocol: Literal["official", "last-500"]
    folds: Annotated[list[Annotated[int, Field(ge=0, lt=FOLDS)]], Field(min_length=1)]


class Fold(NamedTuple):
    """PMIDs of one fold: what is trained on and what is held out for choosing."""

    train: tuple[str, ...]
    dev: tuple[str, ...]


class Split(NamedTuple):
    """The folds in their order and the test PMIDs; together every question exactly once per fold."""

    folds: tuple[Fold, ...]
    test: tuple[str, ...]


def split(questions: Sequence[Question], *, protocol: Literal["official", "last-500"]) -> Split:
    """Split labelled questions by ``protocol``, reproducibly from their file order alone.

    Raises DataError for an unlabelled or repeated question, LeakageError if PQA-L comes out with
    other test questions than the official ones.
    """
    _check(questions)
    if protocol == "last-500":
        return _last_half(questions)
    result = _official(questions)
    if pmids_sha256([q.pmid for q in questions]) == PQAL_PMIDS_SHA256:
        found = pmids_sha256(result.test)
        if found != OFFICIAL_TEST_SHA256:
            raise LeakageError(
                f"this is PQA-L, but its test PMIDs hash to {found} and the official ones to "
                f"{OFFICIAL_TEST_SHA256}: order or labels of the file were changed; fetch it again"
            )
    return result


def select(result: Split, folds: Sequence[int]) -> dict[str, Fold]:
    """Return the asked folds by name.

    Raises ParamsError for one that this protocol does not have, DataError for one that came out empty.
    """
    unknown = [f for f in folds if f >= len(result.folds)]
    if unknown:
        raise ParamsError(
            f"split.folds: fold {unknown[0]} does not exist: this protocol has {len(result.folds)}"
        )
    if len(set(folds)) != len(folds):
        raise ParamsError(f"split.folds: {list(folds)} names a fold twice")
    if empty := [f for f in folds if not result.folds[f].dev or not result.folds[f].train]:
        raise DataError(
            f"fold {empty[0]} is empty: {len(result.test)} test questions are too few data"
        )
    return {str(f): result.folds[f] for f in folds}


def unlabelled_part(
    candidates: Sequence[Question], labelled: Sequence[Question], *, limit: int | None
) -> Unlabelled:
    """Return the questions without an answer whose PMID no labelled question has, in file order.

    Above ``limit`` those with the smallest SHA-256 of their PMID stay, so that a higher limit only
    adds. Raises DataError for a question with an answer or a PMID that stands twice.
    """
    known = {q.pmid for q in labelled}
    repeated = [p for p, n in Counter(q.pmid for q in candidates).items() if n > 1]
    if repeated:
        raise DataError(f"PMID {repeated[0]}: stands twice in the unlabelled questions")
    if answered := [q.pmid for q in candidates if q.answer is not None]:
        raise DataError(
            f"PMID {answered[0]}: has a final_decision; data.unlabelled is for questions without"
        )
    free = [q for q in candidates if q.pmid not in known]
    ranked = sorted(free, key=lambda q: hashlib.sha256(q.pmid.encode()).digest())
    chosen = {q.pmid for q in ranked[:limit]}
    return Unlabelled([q for q in free if q.pmid in chosen], len(candidates) - len(free))


def write_folds(path: Path, folds: Mapping[str, Fold]) -> None:
    """Write the folds as JSON for the later stages."""
    write_json(path, {name: fold._asdict() for name, fold in folds.items()})


def read_folds(path: Path) -> dict[str, Fold]:
    """Read what ``write_folds`` wrote, folds in numerical order; DataError if it is something else."""
    body = read_json(path)
    try:
        return {
            name: Fold(tuple(body[name]["train"]), tuple(body[name]["dev"]))
            for name in sorted(body, key=int)
        }
    except (KeyError, TypeError, ValueError) as exc:
        raise DataError(f"{path}: not a file of folds; run the split stage ({exc!r})") from exc


def pmids_sha256(pmids: Sequence[str]) -> str:
    """Return the sha256 of the sorted PMIDs joined by newlines."""
    return hashlib.sha256("\n".join(sorted(pmids)).encode()).hexdigest()


def _official(questions: Sequence[Question]) -> Split:
    rng = random.Random(_SEED)
    labelled: list[Labelled] = [(q.pmid, q.answer) for q in questions]
    cross_validation, test = _stratified(labelled, 2, rng)
    chunks = _stratified(cross_validation, FOLDS, rng)
    folds = tuple(
        Fold(
            train=tuple(p for j, chunk in enumerate(chunks) if j != i for p, _ in chunk),
            dev=tuple(p for p, _ in chunks[i]),
        )
        for i in range(FOLDS)
    )
    return Split(folds, tuple(p for p, _ in test))


def _stratified(rows: Sequence[Labelled], parts: int, rng: random.Random) -> list[list[Labelled]]:
    """Cut rows into ``parts`` with the answers spread evenly.

    Each answer's rows are shuffled and cut into chunks of ceil(n / parts), so the last part is short;
    if it is, every other part gives it one row drawn at random.
    """
    pieces = []
    for answer in ANSWERS:
        chosen = [row for row in rows if row[1] == answer]
        rng.shuffle(chosen)
        size = math.ceil(len(chosen) / parts)
        ends = [*(min(i * size, len(chosen)) for i in range(parts)), len(chosen)]
        pieces.append([chosen[a:b] for a, b in pairwise(ends)])
    result = [[row for piece in pieces for row in piece[i]] for i in range(parts)]
    if len(result[-1]) != len(result[0]):
        for part in filter(
            None, result[:-1]
        ):  # a part can be empty in data much smaller than PQA-L
            moved = rng.choice(part)
            part.remove(moved)
            result[-1].append(moved)
    return result


def _last_half(questions: Sequence[Question]) -> Split:
    """The split of Guo et al. 2023's code: by file order, 45 % train, 5 % dev, the last half test."""
    pmids = [q.pmid for q in questions]
    half = len(pmids) // 2
    cut = half - half // FOLDS
    return Split((Fold(tuple(pmids[:cut]), tuple(pmids[cut:half])),), tuple(pmids[half:]))


def _check(questions: Sequence[Question]) -> None:
    seen: set[str] = set()
    for q in questions:
        if q.answer is None:
            raise DataError(
                f"PMID {q.pmid}: has no final_decision; only labelled questions can be split"
            )
        if q.pmid in seen:
            raise DataError(f"PMID {q.pmid}: stands twice in the questions")
        seen.add(q.pmid)
    if len(questions) < 2 * FOLDS:
        raise DataError(
            f"{len(questions)} questions are too few: {FOLDS} folds and a test half need {2 * FOLDS}"
        )
