"""Bring the raw question file into the project, from one of three sources, never silently changed."""

from __future__ import annotations

import logging
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medslm.data.pubmedqa import read_questions
from medslm.errors import DataError
from medslm.files import require_sha256, writing_folder
from medslm.params import Section

MAX_BYTES = 1 << 30  # PQA-A, the largest file of PubMedQA, is about half of this
TIMEOUT_S = 60

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

log = logging.getLogger(__name__)


class SampleSource(Section):
    """The embedded sample of fictional studies."""

    source: Literal["sample"]


class PubMedQASource(Section):
    """PubMedQA from its repository at a fixed commit; ``{revision}`` stands in ``url``."""

    source: Literal["pubmedqa"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256


class FileSource(Section):
    """A file on this machine. Its hash is pinned, since DVC does not watch paths outside the project."""

    source: Literal["file"]
    path: str
    sha256: Sha256


DataParams = Annotated[SampleSource | PubMedQASource | FileSource, Field(discriminator="source")]


def fetch(source: SampleSource | PubMedQASource | FileSource, *, sample: Path, out: Path) -> int:
    """Fill the folder ``out`` with the one raw file ``pqal.*`` and return how many questions it holds.

    Raises DataError if the source cannot be read or is not PubMedQA, IntegrityError if its hash is
    not the pinned one; ``out`` is then as it was before.
    """
    with writing_folder(out) as partial:
        if isinstance(source, SampleSource):
            file = _copy(sample, partial)
        elif isinstance(source, FileSource):
            file = _copy(Path(source.path), partial)
            require_sha256(file, source.sha256)
        else:
            file = _download(source.url.replace("{revision}", source.revision), partial)
            require_sha256(file, source.sha256)
        return len(read_questions(file))


def raw_file(folder: Path) -> Path:
    """Return the one file that ``fetch`` left in ``folder``; DataError if it did not run."""
    files = sorted(folder.glob("pqal.*"))
    if len(files) != 1:
        raise DataError(
            f"{folder}: expected one file pqal.*, found {len(files)}; run the fetch stage"
        )
    return files[0]


def _copy(path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file (data.path in params.yaml)")
    target = folder / f"pqal{path.suffix}"
    shutil.copyfile(path, target)
    return target


def _download(url: str, folder: Path) -> Path:
    target = folder / f"pqal{Path(url).suffix}"
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
