"""The questions as `split` would hand them on, read from the raw files before anything ran."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from medslm.data.fetch import (
    DataParams,
    FileSource,
    PubMedQASource,
    Unlabelled,
    UnlabelledFile,
    UnlabelledUrl,
    raw_file,
    raw_unlabelled_file,
)
from medslm.data.pubmedqa import read_questions
from medslm.data.records import Question
from medslm.data.split import SplitParams, select, split, unlabelled_part
from medslm.errors import DataError, IntegrityError
from medslm.files import require_sha256
from medslm.params import load_all, load_section
from medslm.teacher.shots import showable

Part = Literal["train", "dev", "test", "unlabelled"]

SAMPLE = Path("data/sample/pqal.json")
SAMPLE_UNLABELLED = Path("data/sample/pqau.json")
RAW = Path("data/raw")


class Questions:
    """The parts of the data that params.yaml describes; nothing is read before it is asked for.

    A split on the disk may be older than params.yaml, the raw files are checked by their hash.
    Raises DataError if they are not here, and what `fetch` and `split` raise.
    """

    def __init__(self, params: Path) -> None:
        self._params = params

    def part(self, name: Part) -> list[Question]:
        """Return the questions of one part in file order."""
        if name == "unlabelled":
            return self._unlabelled
        return self._parts[name]

    def showable(self) -> list[Question]:
        """Return the questions that may be worked examples."""
        return showable(**self._parts)

    @cached_property
    def _labelled(self) -> list[Question]:
        source = load_all(self._params, "data", DataParams)
        if isinstance(source, FileSource):
            return read_questions(_own(Path(source.path), source.sha256))
        if isinstance(source, PubMedQASource):
            return read_questions(_fetched(raw_file, source.sha256))
        return read_questions(SAMPLE)

    @cached_property
    def _parts(self) -> dict[str, list[Question]]:
        knobs = load_section(self._params, "split", SplitParams)
        result = split(self._labelled, protocol=knobs.protocol)
        folds = select(result, knobs.folds).values()
        pmids = {
            "train": {pmid for fold in folds for pmid in fold.train},
            "dev": {pmid for fold in folds for pmid in fold.dev},
            "test": set(result.test),
        }
        return {name: [q for q in self._labelled if q.pmid in pmids[name]] for name in pmids}

    @cached_property
    def _unlabelled(self) -> list[Question]:
        source: Unlabelled = load_all(self._params, "data.unlabelled", Unlabelled)
        if source is None:
            return []
        limit = None
        if isinstance(source, UnlabelledFile):
            file, limit = _own(Path(source.path), source.sha256), source.limit
        elif isinstance(source, UnlabelledUrl):
            file, limit = _fetched(raw_unlabelled_file, source.sha256), source.limit
        else:
            file = SAMPLE_UNLABELLED
        return unlabelled_part(read_questions(file), self._labelled, limit=limit).questions


def _own(path: Path, sha256: str) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file (section data of params.yaml)")
    require_sha256(path, sha256)
    return path


class _Finder(Protocol):
    """Finds a raw file in the folder that `fetch` fills."""

    def __call__(self, folder: Path) -> Path | None: ...


def _fetched(find: _Finder, sha256: str) -> Path:
    """Return a file that `fetch` downloaded; looking for it must not download anything."""
    try:
        if (file := find(RAW)) is not None:
            require_sha256(file, sha256)
            return file
    except (DataError, IntegrityError):
        pass  # none, or that of other params
    raise DataError(
        f"{RAW}: does not hold the questions that params.yaml names; download them with "
        "`dvc repro split`, then plan again"
    )
