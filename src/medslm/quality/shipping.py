"""The files of `medslm export`: which pairs are meant, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from medslm.data.records import Example, Pair, Question
from medslm.data.variants import Variants, asks_of
from medslm.errors import DataError, ParamsError
from medslm.files import read_json, read_jsonl, sha256_of
from medslm.params import load_all, load_value
from medslm.quality.card import Ask, Provenance, card
from medslm.quality.decisions import read_decisions, verdicts
from medslm.quality.desk import REVIEW, chosen_asks
from medslm.quality.export import Written, rows_of, write_dataset

_CHECKED = Path("data/checked")
_MIXES = Path("data/mix")
_COUNTS = Path("metrics/quality")
_GATE = Path("metrics/gate.json")
_PARTS = (Path("data/split/train.jsonl"), Path("data/split/unlabelled.jsonl"))


def export(
    params: Path, out: Path, *, variant: str | None, asks: Sequence[str], with_csv: bool
) -> Written:
    """Write the kept pairs of all asks, of the named ones, or those that a variant is trained on."""
    if variant is not None and asks:
        raise ParamsError("--variant and --ask exclude each other: a variant names its asks")
    kept = _of_variant(params, variant) if variant else _kept(chosen_asks(params, asks))
    sources = [question for path in _PARTS for question in read_jsonl(path, Question)]
    rows = rows_of(kept, sources)
    what = (
        f"those that the variant {variant} is trained on"
        if variant
        else "all kept pairs of its asks"
    )
    made = _provenance(params, kept, what)
    return write_dataset(out, rows, card=card(rows, made), with_csv=with_csv)


def _file(ask: str) -> Path:
    return _CHECKED / ask / "kept.jsonl"


def _kept(asks: Sequence[str]) -> dict[str, list[Pair]]:
    return {ask: read_jsonl(_file(ask), Pair) for ask in asks}


def _of_variant(params: Path, variant: str) -> dict[str, list[Pair]]:
    """Return those kept pairs that are in the variant's mix; one that lost them is out of date."""
    variants: Variants = load_all(params, "variants", Variants)
    if variant not in variants:
        raise ParamsError(f"--variant {variant}: not one of variants in {params}: {[*variants]}")
    path = _MIXES / f"{variant}.jsonl"
    mixed = {example.pair_id for example in read_jsonl(path, Example)} - {None}
    kept = {
        ask: [pair for pair in pairs if pair.id in mixed]
        for ask, pairs in _kept(asks_of(variants[variant])).items()
    }
    if missing := mixed - {pair.id for pairs in kept.values() for pair in pairs}:
        raise DataError(
            f"{path}: holds {len(missing)} pair(s) that are no longer kept; run `medslm run "
            f"mix@{variant}` first"
        )
    return kept


def _provenance(params: Path, kept: Mapping[str, Sequence[Pair]], what: str) -> Provenance:
    asks = load_value(params, "asks")
    teachers = load_value(params, "teachers")
    decisions = read_decisions(REVIEW) if REVIEW.exists() else []
    every = [pair for pairs in kept.values() for pair in pairs]
    return Provenance(
        source=str(load_value(params, "data.source")),
        chosen=what,
        asks={
            ask: Ask(
                teachers[asks[ask]["teacher"]],
                {prompt: _prompt_hash(prompt) for prompt in sorted({p.prompt for p in pairs})},
                read_json(_COUNTS / f"{ask}.json"),
            )
            for ask, pairs in kept.items()
        },
        gate=bool(read_json(_GATE)["passed"]) if _GATE.exists() else None,
        decisions=len(verdicts(every, decisions)),
        hashes={str(path): sha256_of(path) for path in [*_PARTS, *map(_file, kept)]},
    )


def _prompt_hash(prompt: str) -> str | None:
    """Return the hash of a prompt's file, None for one that this version does not have."""
    root = resources.files("medslm.teacher").joinpath("prompts")
    known: dict[str, Any] = {
        f"{folder.name}/{file.name.removesuffix('.txt')}": file
        for folder in root.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
    }
    found = known.get(prompt)
    return sha256_of(Path(str(found))) if found else None
