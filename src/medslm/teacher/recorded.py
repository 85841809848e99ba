"""The teacher that answers from a file of replies written before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from medslm.errors import DataError
from medslm.files import dump_json, read_jsonl, require_sha256
from medslm.params import Section
from medslm.teacher.replies import STOP, Journal, Reply
from medslm.teacher.requests import Request

_AT_ONCE = 1000  # one write to the disk each


class RecordedParams(Section):
    """A file of recorded replies. Its hash is pinned, since DVC does not watch it."""

    backend: Literal["recorded"]
    path: Path
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    max_failed_share: float = Field(ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of the file: the reply to request ``index`` of a strategy about one study."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    pmid: str
    strategy: str
    index: int
    reply: dict[str, Any] | str


class Recorded:
    """Replies by PMID, strategy and index. A request without one fails with reason "missing"."""

    def __init__(self, contents: Mapping[tuple[str, str, int], str]) -> None:
        self._contents = contents

    def identity(self, pmid: str, strategy: str, index: int) -> dict[str, object]:
        """Return the hash of the recorded text, so that a changed recording is a new request."""
        content = self._contents.get((pmid, strategy, index))
        found = None if content is None else hashlib.sha256(content.encode()).hexdigest()
        return {"backend": "recorded", "reply": found}

    def answer(self, requests: Sequence[Request], journal: Journal) -> Iterator[Sequence[Reply]]:
        """Yield the recordings; ``created`` is 0, because when they were written is not known."""
        del journal  # what was written before costs nothing
        for start in range(0, len(requests), _AT_ONCE):
            yield [self._reply(request) for request in requests[start : start + _AT_ONCE]]

    def _reply(self, request: Request) -> Reply:
        content = self._contents.get((request.pmid, request.strategy, request.index))
        reason = "missing" if content is None else STOP
        return Reply(request.key, content, reason, None, request.model, 0, structured=False)


def read_recorded(path: Path, sha256: str) -> Recorded:
    """Read a file of recordings.

    Raises IntegrityError if it does not have the pinned hash, DataError naming the line that is
    unreadable or repeated.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file (the recorded replies of a teacher in params.yaml)")
    require_sha256(path, sha256)
    contents: dict[tuple[str, str, int], str] = {}
    for number, row in enumerate(read_jsonl(path, Recording), start=1):
        key = (row.pmid, row.strategy, row.index)
        if key in contents:
            raise DataError(
                f"{path}:{number}: a second reply for PMID {row.pmid}, {row.strategy}, index "
                f"{row.index}"
            )
        try:
            contents[key] = row.reply if isinstance(row.reply, str) else dump_json(row.reply)
        except ValueError as exc:
            raise DataError(f"{path}:{number}: reply: {exc}") from None
    return Recorded(contents)
