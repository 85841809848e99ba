"""Where a study or a generated pair went: replies, pairs, verdicts, training sets, models that learned it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medslm.errors import DataError
from medslm.tracking import bytes_at, lockfile
from medslm.tracking.lineage import Origin, mix_of

_PAIR = re.compile(r"(?P<ask>[a-z0-9][a-z0-9_-]*):(?P<pmid>[^:\s]+):(?P<index>\d+)")

Row = Mapping[str, Any]


def is_pair(word: str) -> bool:
    """Return whether a word is the id of a pair: ask, PMID and index."""
    return _PAIR.fullmatch(word) is not None


def of_pair(root: Path, pair_id: str, models: Sequence[tuple[str, Origin]]) -> str:
    """Return the way of a pair, from the raw study through its reply to every model that saw it.

    DataError if no reply of the present pipeline has this id.
    """
    found = _PAIR.fullmatch(pair_id)
    assert found is not None, "the caller asked is_pair"
    ask, pmid, index = found["ask"], found["pmid"], int(found["index"])
    replies = [r for r in _replies(root, ask, pmid) if r["index"] == index]
    if not replies:
        raise DataError(f"{pair_id}: data/replies/{ask}.jsonl holds no such reply; `dvc checkout`?")
    pairs = bytes_at.rows(root / f"data/pairs/{ask}/pairs.jsonl")
    pair = next((row for row in pairs if row.get("id") == pair_id), None)
    lines = [
        f"pair {pair_id}",
        *_source(root, pmid),
        *_reply(root, ask, replies[0]),
        *_mixes(root, lambda row: row.get("pair_id") == pair_id),
        *_models(
            root,
            models,
            pmid,
            lambda row: row.get("pair_id") == pair_id and _says(row, pair),
            lambda row: row.get("pair_id") == pair_id,
        ),
    ]
    return "\n".join(lines)


def _says(row: Row, pair: Row | None) -> bool:
    """Return whether a row of a training set says what the pair says; its abstract if it has its own."""
    if pair is None:
        return False
    keys = ("question", "answer", *["context"] * (pair.get("context") is not None))
    return all(row.get(key) == pair.get(key) for key in keys)


def of_pmid(root: Path, pmid: str, models: Sequence[tuple[str, Origin]]) -> str:
    """Return everywhere a study went: its part of the split, replies, pairs, training sets, models.

    DataError if it is in no part of the present split.
    """
    source = list(_source(root, pmid))
    if len(source) == 1:
        raise DataError(
            f"PMID {pmid}: is in no part of data/split; `dvc checkout`, or another PMID?"
        )
    replies = [(ask, row) for ask in _asks(root) for row in _replies(root, ask, pmid)]
    lines = [
        *source,
        *[line for ask, row in replies for line in _reply(root, ask, row)],
        *([] if replies else ["  no teacher was asked about it"]),
        *_mixes(root, lambda row: row.get("pmid") == pmid),
        *_models(root, models, pmid, lambda row: row.get("pmid") == pmid),
    ]
    return "\n".join(lines)


def _source(root: Path, pmid: str) -> Iterator[str]:
    """Yield the study's line and one for each part it is in."""
    yield f"  source       PMID {pmid}"
    for part in ("train", "dev", "test", "unlabelled"):
        path = root / f"data/split/{part}.jsonl"
        if any(row.get("pmid") == pmid for row in bytes_at.rows(path)):
            folds = _held_out_in(root / "data/split/folds.json", pmid) if part == "dev" else []
            of = f" of fold {', '.join(folds)}" if folds else ""
            yield f"               in {part}{of}  (data/split/{part}.jsonl, md5 {lockfile.md5_of(path)})"


def _reply(root: Path, ask: str, reply: Row) -> Iterator[str]:
    pair_id = f"{ask}:{reply['pmid']}:{reply['index']}"
    yield f"  reply        {ask} {reply['index']}: {reply['key']}"
    yield (
        f"               teacher {reply['teacher']}, {reply['served_model']}, "
        f"prompt {reply['prompt']}, ended with {reply['finish_reason']}"
    )
    yield f"               {_prompts(root, str(reply['strategy']))}"
    yield f"    {pair_id}  {_verdict(root, ask, pair_id, str(reply['key']))}"
    for vote in bytes_at.rows(root / f"data/votes/{ask}.jsonl"):
        if vote.get("pair_id") == pair_id:
            yield f"      vote       {vote.get('answer') or 'abstains'} by {vote.get('verifier')}"


def _verdict(root: Path, ask: str, pair_id: str, key: str) -> str:
    """Say what became of a reply."""
    if any(
        row.get("id") == pair_id for row in bytes_at.rows(root / f"data/checked/{ask}/kept.jsonl")
    ):
        for row in bytes_at.rows(root / "data/pool/dropped.jsonl"):
            if row["pair"]["id"] == pair_id:
                return f"kept, then left out of the pool: {', '.join(row['reasons'])}"
        return "kept"
    for row in bytes_at.rows(root / f"data/checked/{ask}/dropped.jsonl"):
        if row["pair"]["id"] == pair_id:
            return f"dropped: {', '.join(row['reasons'])}"
    for row in bytes_at.rows(root / f"data/pairs/{ask}/unreadable.jsonl"):
        if row.get("key") == key:
            return f"unreadable: {row['reason']}"
    return "not checked yet; run `dvc repro`"


def _prompts(root: Path, strategy: str) -> str:
    folder = Path("src/medslm/teacher/prompts") / strategy
    if not (root / folder).is_dir():
        return f"prompt files: {folder.as_posix()} is not here"
    return f"prompt files {folder.as_posix()}  md5 {lockfile.md5_of(root / folder)} now"


def _mixes(root: Path, wanted: Callable[[Row], bool]) -> Iterator[str]:
    """Yield the present training sets that hold it, and how often."""
    for path in sorted((root / "data/mix").glob("*.jsonl")):
        count = sum(wanted(row) for row in bytes_at.rows(path))
        if count:
            yield f"  mix          {path.stem}: {count} row(s)  (md5 {lockfile.md5_of(path)})"


def _models(
    root: Path,
    models: Sequence[tuple[str, Origin]],
    pmid: str,
    wanted: Callable[[Row], bool],
    namesake: Callable[[Row], bool] | None = None,
) -> Iterator[str]:
    """Yield a line per registered version: whether it learned from it.

    An id names a place (ask, PMID, index): with another seed, prompt or teacher another pair had it, a
    ``namesake``.
    """
    for name, origin in models:
        mix = mix_of(origin)
        if mix is None:
            continue
        file = bytes_at.find(root, *mix)
        if file is None:
            yield f"  model        {name}: not known, its {mix[0]} ({mix[1]}) is not here: `dvc fetch`"
            continue
        count = sum(wanted(row) for row in bytes_at.rows(file))
        seen = _seen(root, origin, pmid, count)
        if not count and namesake and any(namesake(row) for row in bytes_at.rows(file)):
            seen += ", but another pair that had this id then"
        yield f"  model        {name} ({origin.variant}): {seen}"
    if not models:
        yield "  model        none is registered"


def _seen(root: Path, origin: Origin, pmid: str, count: int) -> str:
    if not count:
        return "never saw it"
    folds = "data/split/folds.json"
    file = bytes_at.find(root, folds, lockfile.md5_in_lock(origin.lock, folds) or "-" * 32)
    held = _held_out_in(file, pmid) if file else []
    every = _folds(file) if file else []
    trained = [fold for fold in every if fold not in held]
    if every and not trained:
        return f"held out in every fold ({', '.join(held)}): never trained on it"
    where = f" in fold {', '.join(trained)}" if trained else ""
    out = f", held out in fold {', '.join(held)}" if held else ""
    return f"trained on {count} row(s) of it{where}{out}"


def _folds(path: Path) -> list[str]:
    return sorted(json.loads(path.read_text(encoding="utf-8")), key=int)


def _held_out_in(path: Path, pmid: str) -> list[str]:
    if not path.is_file():
        return []
    body = json.loads(path.read_text(encoding="utf-8"))
    return [name for name in sorted(body, key=int) if pmid in body[name]["dev"]]


def _asks(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "data/replies").glob("*.jsonl"))


def _replies(root: Path, ask: str, pmid: str) -> Iterable[Row]:
    return (r for r in bytes_at.rows(root / f"data/replies/{ask}.jsonl") if r.get("pmid") == pmid)
