"""The files of `medslm review`: where the pairs to look at are, and where decisions go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medslm.data.records import Question
from medslm.errors import ParamsError
from medslm.files import read_jsonl, write_jsonl, write_text
from medslm.params import load_all
from medslm.quality.decisions import Decision, Merged, merge, read_decisions
from medslm.quality.review import Seen, page, read_seen

_CHECKED = Path("data/checked")
_VOTES = Path("data/votes")
_SOURCES = (Path("data/split/train.jsonl"), Path("data/split/unlabelled.jsonl"))
REVIEW = Path("data/review.jsonl")


def write_page(params: Path, out: Path, asks: Sequence[str]) -> int:
    """Write the review page of these asks, or of all in params; return how many pairs it shows."""
    seen = _seen(params, asks)
    sources = [question for path in _SOURCES for question in read_jsonl(path, Question)]
    write_text(out, page(seen, sources, _present()))
    return len(seen)


def merge_download(params: Path, download: Path) -> Merged:
    """Merge a file that the page saved into data/review.jsonl, which is then sorted by pair."""
    pairs = {one.pair.id: one.pair for one in _seen(params, ())}
    merged = merge(_present(), download, pairs)
    write_jsonl(REVIEW, merged.decisions)
    return merged


def _present() -> list[Decision]:
    return read_decisions(REVIEW) if REVIEW.exists() else []


def _seen(params: Path, asks: Sequence[str]) -> list[Seen]:
    return read_seen(_CHECKED, _VOTES, chosen_asks(params, asks))


def chosen_asks(params: Path, asks: Sequence[str]) -> list[str]:
    """Return those of params that are named, all without a name; ParamsError for another name."""
    known = list(load_all(params, "asks", dict[str, Any]))
    if unknown := [ask for ask in asks if ask not in known]:
        raise ParamsError(f"--ask {unknown[0]}: not one of asks in {params}: {known}")
    return [ask for ask in known if not asks or ask in asks]
