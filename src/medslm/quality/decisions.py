"""What people decided about pairs: data/review.jsonl in git, merged from downloads of the review page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field

from medslm.data.records import Pair
from medslm.errors import DataError
from medslm.files import read_jsonl, sha256_of_json
from medslm.quality.rules import Drop
from medslm.quality.text import is_safe

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

MAX_NOTE = 2000
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

# What a person may overrule: judgements about wording, topic and likelihood. The others are none:
# a leak, a key or markup stays out whoever likes the pair, what the set needs as a whole (nothing
# twice, no contradiction) is not a matter of one pair, and the gate stops pairs without a question
# mark or anything new. A reason that is not listed here cannot be overruled.
SOFT: frozenset[str] = frozenset(
    {
        Drop.NOT_YES_NO,
        Drop.TOO_SHORT,
        Drop.TOO_LONG,
        Drop.NOT_ENGLISH,
        Drop.REFUSAL,
        Drop.MENTIONS_ITS_PROMPT,
        Drop.ADDRESSES_READER,
        Drop.REPEATS_ITSELF,
        Drop.GIVEAWAY,
        Drop.OFF_TOPIC,
        Drop.ANSWER_NOT_IN_CONTEXT,
        Drop.SAYS_ANOTHER_ANSWER,
        Drop.UNKNOWN_NAMES,
        Drop.COPIES_CONTEXT,
        Drop.CHANGED_NUMBERS,
        Drop.CHANGED_NEGATION,
        Drop.CHANGED_DIRECTION,
        Drop.CHANGED_PEOPLE,
        Drop.EDITS_TOO_MUCH,
        Drop.EMPTY_LONG_ANSWER,
        Drop.UNSUPPORTED_BY_VOTES,
    }
)
# What a keep lifts in the end: `check` lets go of the soft ones, `pool` of a probe's doubt.
LIFTED = SOFT | {Drop.DOUBTED_LABEL}


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's verdict on a pair as it was then: ``content`` is the hash of what was looked at."""

    __pydantic_config__ = _STRICT
    pair_id: str
    content: _Sha256
    verdict: Literal["keep", "drop"]
    note: str


@dataclass(frozen=True, slots=True)
class Download:
    """A line that the review page saved; ``clear`` takes an earlier decision back."""

    __pydantic_config__ = _STRICT
    pair_id: str
    content: _Sha256
    verdict: Literal["keep", "drop", "clear"]
    note: str


class Merged(NamedTuple):
    """All decisions, how many of a download were new, changed, the same or cleared, and why not others."""

    decisions: list[Decision]
    new: int
    changed: int
    same: int
    cleared: int
    refused: list[str]


def content_of(pair: Pair) -> str:
    """Return the hash of what a reviewer judges; another teacher, prompt or id does not change it."""
    seen = (pair.pmid, pair.strategy, pair.question, pair.context, pair.answer, pair.long_answer)
    return sha256_of_json(seen)


def read_decisions(path: Path) -> list[Decision]:
    """Read data/review.jsonl; DataError for a bad line or a pair that is decided twice."""
    decisions = read_jsonl(path, Decision)
    _require_once(path, [decision.pair_id for decision in decisions])
    return decisions


def verdicts(pairs: Iterable[Pair], decisions: Sequence[Decision]) -> dict[str, str]:
    """Return keep or drop by pair id for those of the pairs whose content is still the decided one."""
    by_id = {decision.pair_id: decision for decision in decisions}
    found: dict[str, str] = {}
    for pair in pairs:
        decision = by_id.get(pair.id)
        if decision is not None and decision.content == content_of(pair):
            found[pair.id] = decision.verdict
    return found


def outdated(pairs: Iterable[Pair], decisions: Sequence[Decision]) -> list[str]:
    """Return the ids of pairs that changed since they were decided; such a decision does nothing."""
    pairs = list(pairs)
    valid = verdicts(pairs, decisions)
    return sorted({p.id for p in pairs} & {d.pair_id for d in decisions} - set(valid))


def overruled(reasons: Iterable[Drop], verdict: str | None) -> set[Drop]:
    """Return the reasons that hold after a person's verdict: ``keep`` lifts the soft ones only."""
    if verdict == "drop":
        return {*reasons, Drop.DROPPED_BY_REVIEWER}
    return {reason for reason in reasons if verdict != "keep" or reason not in SOFT}


def merge(present: Sequence[Decision], path: Path, pairs: Mapping[str, Pair]) -> Merged:
    """Merge a download into the present decisions; it wins where both speak of a pair.

    A damaged file raises DataError and nothing of it counts. A line about a pair that is not there
    or has changed, or with a note of hidden characters, is refused by number, the others count.
    """
    lines = read_jsonl(path, Download)
    _require_once(path, [line.pair_id for line in lines])
    merged = {decision.pair_id: decision for decision in present}
    counts = {"new": 0, "changed": 0, "same": 0, "cleared": 0}
    refused = []
    for number, line in enumerate(lines, start=1):
        if (problem := _problem(line, pairs)) is not None:
            refused.append(f"{path}:{number}: {line.pair_id!r}: {problem}")
            continue
        counts[_take(merged, line)] += 1
    return Merged([merged[pair_id] for pair_id in sorted(merged)], **counts, refused=refused)


def _take(merged: dict[str, Decision], line: Download) -> str:
    """Put one line in its place and say what that was: new, changed, same or cleared."""
    before = merged.get(line.pair_id)
    if line.verdict == "clear":
        merged.pop(line.pair_id, None)
        return "same" if before is None else "cleared"
    merged[line.pair_id] = Decision(line.pair_id, line.content, line.verdict, line.note)
    if before is None:
        return "new"
    return "same" if dataclasses.astuple(before) == dataclasses.astuple(line) else "changed"


def _problem(line: Download, pairs: Mapping[str, Pair]) -> str | None:
    pair = pairs.get(line.pair_id)
    if pair is None:
        return "no such pair among the checked ones"
    if content_of(pair) != line.content:
        return "the pair has changed since: look at it again"
    if len(line.note) > MAX_NOTE:
        return f"its note is longer than {MAX_NOTE} characters"
    return None if is_safe(line.note) else "its note holds characters that nobody can see"


def _require_once(path: Path, pair_ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for number, pair_id in enumerate(pair_ids, start=1):
        if pair_id in seen:
            raise DataError(f"{path}:{number}: pair {pair_id!r} is decided twice; keep one line")
        seen.add(pair_id)
