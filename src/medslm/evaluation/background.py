"""What stands behind the numbers, as tables of texts: generated data, votes, cost, training, origins.

The files are other stages' metrics. They grow, so what is not there is a dash here and no error; only
counts that must add up are required.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict

from medslm.errors import DataError
from medslm.evaluation.curves import Epoch
from medslm.evaluation.sheet import read_record
from medslm.evaluation.table import DASH, number
from medslm.files import read_json

Table = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Quality:
    """What `check` counted for one ask, as far as the report shows it."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)
    parsed: int
    unreadable: dict[str, int]
    kept: int
    dropped: int
    reasons: dict[str, int]
    answers: Any = None
    expectations: Any = None


class Background(NamedTuple):
    """The tables of a report that hold no score; an empty one is left out."""

    quality: Table
    votes: Table
    diversity: Table
    spend: Table
    training: Table
    origins: Table


class Names(NamedTuple):
    """What params.yaml lists, in its order; baselines include the teachers' own answers."""

    asks: Sequence[str]
    answers: Sequence[str]
    variants: Sequence[str]
    baselines: Sequence[str]


class Places(NamedTuple):
    """Where other stages wrote their metrics."""

    quality: Path
    votes: Path
    spend: Path
    diversity: Path


def read_background(
    names: Names,
    places: Places,
    histories: Mapping[str, Sequence[Epoch]],
    outs: Mapping[str, str],
) -> Background:
    """Read every table; DataError for counts that are missing, damaged or do not add up."""
    counts = {ask: read_record(places.quality / f"{ask}.json", Quality) for ask in names.asks}
    require_whole(counts)
    paid = [*names.asks, *names.answers]
    return Background(
        quality=quality_table(counts),
        votes=votes_table(read_optional(places.votes, names.asks)),
        diversity=diversity_table(read_json(places.diversity)),
        spend=spend_table(read_optional(places.spend, paid)),
        training=training_table(histories),
        origins=origins_table(
            outs, asks=names.asks, variants=names.variants, baselines=names.baselines
        ),
    )


def quality_table(quality: Mapping[str, Quality]) -> Table:
    """Return a row per ask: what became of its replies, and why."""
    rows = []
    for ask, counts in quality.items():
        replies = counts.parsed + sum(counts.unreadable.values())
        rows.append(
            {
                "ask": ask,
                "replies": str(replies),
                "parsed": str(counts.parsed),
                "kept": str(counts.kept),
                "kept of replies": f"{100 * counts.kept / replies:.0f} %" if replies else DASH,
                "dropped": str(counts.dropped),
                "expectations held": _held(counts.expectations),
                "answers kept": _answers(counts.answers),
                "unreadable because": listed(counts.unreadable),
                "dropped because": listed(counts.reasons),
            }
        )
    return rows


def votes_table(votes: Mapping[str, Any]) -> Table:
    """Return a row per ask: how often the verifier agrees with the experts and with the teacher."""
    rows = []
    for ask, found in votes.items():
        gold, claims = _inside(found, "on_gold"), _claims(_inside(found, "on_claims"))
        rows.append(
            {
                "ask": ask,
                "verifier": _text(found, "verifier"),
                "agrees with experts": _share(gold, "agreement"),
                "always the same answer": _share(gold, "majority_share"),
                "kappa": _share(gold, "kappa"),
                "weight": _share(found, "weight"),
                "agrees with the teacher": _share(claims, "agreement"),
                "abstained": f"{_count(claims, 'abstained')} of {_count(claims, 'n')}",
            }
        )
    return rows


def diversity_table(found: Any) -> Table:
    """Return a row for the real questions and for each ask's kept pairs: how varied they are."""
    groups = {"real questions": _inside(found, "real"), **_inside(found, "asks")}
    return [
        {
            "questions": name,
            "n": _count(own, "n"),
            "distinct words": _share(own, "distinct_1"),
            "distinct pairs of words": _share(own, "distinct_2"),
            "self-BLEU": _share(own, "self_bleu_4"),
        }
        for name, own in groups.items()
        if own
    ]


def spend_table(spend: Mapping[str, Any]) -> Table:
    """Return a row per ask and answers entry: dollars, requests, tokens, and the sum of dollars."""
    rows = []
    for name, found in spend.items():
        rows.append(
            {
                "asked by": name,
                "dollars": _dollars(found.get("usd")) if isinstance(found, Mapping) else DASH,
                "requests": _count(found, "requests"),
                "failed": _count(found, "failed"),
                "prompt tokens": _count(found, "prompt_tokens"),
                "reply tokens": _count(found, "completion_tokens"),
            }
        )
    paid = [f["usd"] for f in spend.values() if isinstance(f, Mapping) and _is_number(f.get("usd"))]
    if len(rows) > 1:
        rest = dict.fromkeys(list(rows[0])[2:], "")
        rows.append({"asked by": "all", "dollars": _dollars(sum(paid)), **rest})
    return rows


def training_table(histories: Mapping[str, Sequence[Epoch]]) -> Table:
    """Return a row per variant: students, epochs, optimiser steps, and where dev loss was lowest."""
    rows = []
    for variant, history in histories.items():
        students: dict[tuple[int, int], list[Epoch]] = defaultdict(list)
        for row in history:
            students[row.fold, row.seed].append(row)
        steps = [max(row.step for row in own) for own in students.values()]
        best = [b for own in students.values() if (b := _best_epoch(own)) is not None]
        rows.append(
            {
                "variant": variant,
                "students": str(len(students)),
                "epochs": f"{max(row.epoch for row in history):g}",
                "steps per student": _span(steps),
                "steps in all": str(sum(steps)),
                "best epoch": _span(best),
            }
        )
    return rows


def origins_table(
    outs: Mapping[str, str],
    *,
    asks: Sequence[str],
    variants: Sequence[str],
    baselines: Sequence[str],
) -> Table:
    """Return the MD5 of every file on the way to the numbers, from the raw data on; dvc.lock has them.

    ``outs`` maps paths to MD5s. What dvc.lock does not have is left out.
    """
    chain = [("raw data", "data/raw")]
    chain += [
        (f"{part} questions", f"data/split/{part}.jsonl") for part in ("train", "dev", "test")
    ]
    chain += [(f"checked pairs of {ask}", f"data/checked/{ask}") for ask in asks]
    for variant in variants:
        chain += [(f"training set of {variant}", f"data/mix/{variant}.jsonl")]
        chain += [(f"adapters of {variant}", f"models/{variant}")]
    chain += [
        (f"predictions of {name}", f"data/predictions/{name}.jsonl")
        for name in (*variants, *baselines)
    ]
    return [
        {"what": what, "path": path, "MD5": outs[path]} for what, path in chain if outs.get(path)
    ]


def read_optional(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON files of these names that are there, by name."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: read_json(path) for name, path in paths.items() if path.is_file()}


def require_whole(quality: Mapping[str, Quality]) -> None:
    """Raise DataError unless kept and dropped pairs add up to those that were read."""
    for ask, counts in quality.items():
        if counts.kept + counts.dropped != counts.parsed:
            raise DataError(
                f"{ask}: {counts.kept} kept and {counts.dropped} dropped pairs are not the "
                f"{counts.parsed} parsed ones: check again"
            )


def listed(reasons: Mapping[str, int]) -> str:
    """Return reasons, the most frequent first, as "name 3, other 1"."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered if count) or DASH


def _inside(found: Any, key: str) -> Mapping[str, Any]:
    inner = found.get(key) if isinstance(found, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _text(found: Any, key: str) -> str:
    value = found.get(key) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else DASH


def _claims(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the counts of all claims: given as they are, or per group of teacher and strategy."""
    if "n" in found:
        return found
    groups = [own for own in found.values() if isinstance(own, Mapping)]
    keys = ("n", "abstained", "answered", "agreed")
    total = {key: sum(own.get(key) or 0 for own in groups) for key in keys} if groups else {}
    share = total["agreed"] / total["answered"] if total.get("answered") else None
    return {**total, "agreement": share}


def _share(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key) if isinstance(found, Mapping) else None
    return number(float(value)) if _is_number(value) else DASH  # type: ignore[arg-type]


def _count(found: Any, key: str) -> str:
    value = found.get(key) if isinstance(found, Mapping) else None
    return f"{value:,}" if _is_number(value) else DASH


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dollars(value: Any) -> str:
    return f"{value:.2f}" if _is_number(value) else DASH


def _held(expectations: Any) -> str:
    held, judged = (_count(expectations, key) for key in ("successful", "evaluated"))
    return DASH if DASH in (held, judged) else f"{held} of {judged}"


def _answers(answers: Any) -> str:
    kept = _inside(answers, "kept")
    return ", ".join(f"{name} {count}" for name, count in kept.items()) or DASH


def _best_epoch(history: Sequence[Epoch]) -> float | None:
    known = [(row.dev_loss, row.epoch) for row in history if row.dev_loss is not None]
    return min(known)[1] if known else None


def _span(values: Sequence[float]) -> str:
    if not values:
        return DASH
    low, high = f"{min(values):g}", f"{max(values):g}"
    return low if low == high else f"{low} to {high}"
