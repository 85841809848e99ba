"""Bring the raw question files into the project, each from one of three sources, never silently changed."""

from __future__ import annotations

import logging
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from medslm.data.pubmedqa import read_questions
from medslm.errors import DataError
from medslm.files import require_sha256, writing_folder
from medslm.params import Section

MAX_BYTES = 1 << 30  # PQA-A, the largest file of PubMedQA, is about half of this
TIMEOUT_S = 60
_LABELLED, _UNLABELLED = "pqal", "pqau"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

log = logging.getLogger(__name__)


class UnlabelledFile(Section):
    """Questions without answers (PQA-U) on this machine, of which at most ``limit`` are used."""

    path: str
    sha256: Sha256
    limit: Annotated[int, Field(ge=1)] | None


class UnlabelledUrl(Section):
    """Questions without answers (PQA-U) to download, of which at most ``limit`` are used."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    sha256: Sha256
    limit: Annotated[int, Field(ge=1)] | None


# sample: those that come with the project; null: none.
Unlabelled = UnlabelledFile | UnlabelledUrl | Literal["sample"] | None


class SampleSource(Section):
    """The embedded sample of fictional studies."""

    source: Literal["sample"]
    unlabelled: Unlabelled


class PubMedQASource(Section):
    """PubMedQA from its repository at a fixed commit; ``{revision}`` stands in ``url``."""

    source: Literal["pubmedqa"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256
    unlabelled: Unlabelled


class FileSource(Section):
    """A file on this machine. Its hash is pinned, since DVC does not watch paths outside the project."""

    source: Literal["file"]
    path: str
    sha256: Sha256
    unlabelled: Unlabelled


DataParams = Annotated[SampleSource | PubMedQASource | FileSource, Field(discriminator="source")]


class Fetched(NamedTuple):
    """How many questions there are with and without an answer."""

    labelled: int
    unlabelled: int


def fetch(
    source: SampleSource | PubMedQASource | FileSource,
    *,
    sample: Path,
    sample_unlabelled: Path,
    out: Path,
) -> Fetched:
    """Fill the folder ``out`` with the raw file ``pqal.*``, and ``pqau.*`` where params ask for it.

    Raises DataError if a source cannot be read or is not PubMedQA, IntegrityError if its hash is
    not the pinned one; ``out`` is then as it was before.
    """
    with writing_folder(out) as partial:
        if isinstance(source, SampleSource):
            file = _copy(sample, partial / _LABELLED)
        elif isinstance(source, FileSource):
            file = _copy(Path(source.path), partial / _LABELLED)
            require_sha256(file, source.sha256)
        else:
            url = source.url.replace("{revision}", source.revision)
            file = _download(url, partial / _LABELLED)
            require_sha256(file, source.sha256)
        more = _fetch_unlabelled(source.unlabelled, sample_unlabelled, partial)
        return Fetched(len(read_questions(file)), more)


def _fetch_unlabelled(source: Unlabelled, sample: Path, folder: Path) -> int:
    if source is None:
        return 0
    if isinstance(source, UnlabelledFile):
        file = _copy(Path(source.path), folder / _UNLABELLED)
        require_sha256(file, source.sha256)
    elif isinstance(source, UnlabelledUrl):
        file = _download(source.url, folder / _UNLABELLED)
        require_sha256(file, source.sha256)
    else:
        file = _copy(sample, folder / _UNLABELLED)
    return len(read_questions(file))


def raw_file(folder: Path) -> Path:
    """Return the one labelled file that ``fetch`` left in ``folder``; DataError if it did not run."""
    files = sorted(folder.glob(f"{_LABELLED}.*"))
    if len(files) != 1:
        raise DataError(
            f"{folder}: expected one file {_LABELLED}.*, found {len(files)}; run the fetch stage"
        )
    return files[0]


def raw_unlabelled_file(folder: Path) -> Path | None:
    """Return the file of questions without answers that ``fetch`` left in ``folder``, if one."""
    return next(iter(sorted(folder.glob(f"{_UNLABELLED}.*"))), None)


def _copy(path: Path, target: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file (section data of params.yaml)")
    target = target.with_suffix(path.suffix)
    shutil.copyfile(path, target)
    return target


def _download(url: str, target: Path) -> Path:
    target = target.with_suffix(Path(urllib.parse.urlsplit(url).path).suffix)
    log.info("fetching %s", url)
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as response,
            target.open("wb") as stream,
        ):
            size = 0
            while block := response.read(1 << 20):
                size += len(block)
                if size > MAX_BYTES:
                    raise DataError(f"{url}: larger than {MAX_BYTES} bytes; this is not PubMedQA")
                stream.write(block)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as exc:
        reason = getattr(exc, "reason", exc)
        raise DataError(
            f"{url}: cannot be downloaded ({reason}); check the network, or use data.source: file"
        ) from exc
    return target
