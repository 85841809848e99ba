"""What one variant's run holds, worked out from files alone, before anything is sent anywhere."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medslm.data.variants import asks_of
from medslm.errors import DataError, Diverged, ParamsError
from medslm.files import dump_json, read_json

# MLflow cuts longer values with no more than a warning (mlflow.utils.validation, 3.17).
MAX_PARAM_LENGTH = 6000

# The sections of params.yaml that shape every result, and those that only a trained variant has;
# which asks and teachers belong to it follows from the variant.
_SHARED = ("data", "split", "student")
_TRAINED = ("tune", "quality")
SECTIONS = (*_SHARED, *_TRAINED, "variants", "asks", "answers", "teachers")
_CURVE_KEYS = ("fold", "seed", "epoch", "step")
_CURVE_VALUES = ("train_loss", "dev_loss", "dev_accuracy", "dev_macro_f1", "learning_rate")
_NAME = re.compile(r"[\w.\-/ ]+", re.ASCII)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")


@dataclass(frozen=True)
class Point:
    """One value of a metric at one training step."""

    key: str
    value: float
    step: int


@dataclass(frozen=True)
class Input:
    """A dataset that went into the results. ``digest`` is its MD5 in dvc.lock, ``context`` its use."""

    name: str
    source: str
    digest: str
    context: str


@dataclass(frozen=True)
class CellRecord:
    """A trained cell: ``key`` stands for all that shaped it, ``points`` are its learning curve."""

    key: str
    variant: str
    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Record:
    """Everything one run logs. ``texts`` are artifacts by file name."""

    name: str
    kind: str
    fingerprint: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curve: Sequence[Point]
    inputs: Sequence[Input]
    texts: Mapping[str, str]
    cells: Sequence[CellRecord] = ()


def variant_params(params: Mapping[str, Any], variant: str) -> dict[str, str]:
    """Return the flat params that shaped a variant: shared sections, tune, quality, its asks and teachers.

    ``params`` holds the SECTIONS. Raises ParamsError for an ask or teacher that is not there.
    """
    asks = {ask: _entry(params, "asks", ask) for ask in asks_of(params["variants"][variant])}
    teachers = {
        name: _entry(params, "teachers", name) for name in (a["teacher"] for a in asks.values())
    }
    chosen: dict[str, Any] = {name: params[name] for name in (*_SHARED, *_TRAINED)}
    entry = params["variants"][variant]
    chosen |= {"variant": entry if isinstance(entry, Mapping) else {"asks": entry}}
    chosen |= {key: value for key, value in (("asks", asks), ("teachers", teachers)) if value}
    return flat_params(chosen)


def baseline_params(params: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the flat params that can shape a baseline, which is not trained.

    For a teacher's own answers these are their entry and the teacher, for others the student.
    """
    if name not in params["answers"]:
        return flat_params({section: params[section] for section in _SHARED})
    entry = _entry(params, "answers", name)
    chosen: dict[str, Any] = {section: params[section] for section in ("data", "split")}
    chosen |= {"answers": {name: entry}}
    teacher = entry["teacher"]
    return flat_params(chosen | {"teachers": {teacher: _entry(params, "teachers", teacher)}})


def flat_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return nested params as ``a.b.c: text``, with passwords in URLs masked.

    Raises ParamsError for a key that MLflow would refuse half-way through a run.
    """
    flat = {
        key: value if isinstance(value, str) else dump_json(value) for key, value in _leaves(params)
    }
    for key in flat:
        if not _NAME.fullmatch(key):
            raise ParamsError(
                f"params.yaml: {key!r}: names may hold only letters, digits, . - _ / and spaces; rename it"
            )
    return {key: without_credentials(value) for key, value in sorted(flat.items())}


def split_long(params: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return (params, texts): a value too long for MLflow becomes its SHA-256 and a whole text file."""
    short, texts = {}, {}
    for key, value in params.items():
        if len(value) <= MAX_PARAM_LENGTH:
            short[key] = value
        else:
            file = f"params/{key}.txt"
            short[key] = f"sha256:{hashlib.sha256(value.encode()).hexdigest()} (whole in {file})"
            texts[file] = value
    return short, texts


def read_metrics(path: Path) -> dict[str, float]:
    """Return the numbers of a score file as ``dev.accuracy: 0.6``; texts, lists and nulls are left out.

    NaN and infinity raise Diverged: MLflow would store infinity as the best value there is.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `dvc repro`") from None
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path}: not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise DataError(
            f"{path}: not a score file: expected an object, found {type(body).__name__}"
        )
    metrics = {
        key: float(value)
        for key, value in _leaves(body)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not metrics:
        raise DataError(f"{path}: holds no number; run `dvc repro`")
    require_finite(metrics, path)
    return dict(sorted(metrics.items()))


def read_curve(path: Path) -> list[Point]:
    """Return the learning curve of a training history; an empty cell is a value not measured at that step."""
    points = []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            if missing := sorted({*_CURVE_KEYS, *_CURVE_VALUES} - set(rows.fieldnames or ())):
                raise DataError(
                    f"{path}: not a training history (no column {missing[0]}); run `dvc repro`"
                )
            for row in rows:
                cell = f"fold{row['fold']}-seed{row['seed']}"
                points += [
                    Point(f"train/{cell}/{name}", float(row[name]), int(row["step"]))
                    for name in _CURVE_VALUES
                    if row[name] != ""
                ]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `dvc repro`") from None
    except (TypeError, ValueError) as exc:
        raise DataError(
            f"{path}: not a training history ({type(exc).__name__}: {exc}); run `dvc repro`"
        ) from exc
    require_finite({f"{p.key} at step {p.step}": p.value for p in points}, path)
    return points


def read_cells(card: Path, variant: str, curve: Sequence[Point]) -> list[CellRecord]:
    """Return a variant's cells with their own curves; none for models that do not say what shaped them.

    A cell's metrics lose the cell's name: its run holds nothing else.
    """
    if not card.is_file():  # not pulled; the variant's own run holds the curves too
        return []
    inputs = read_json(card).get("inputs")
    points: dict[str, list[Point]] = {}
    for point in curve:
        _, cell, key = point.key.split("/", 2)
        points.setdefault(cell, []).append(Point(key, point.value, point.step))
    if not inputs:
        return []
    return [CellRecord(f"{inputs}/{cell}", variant, cell, own) for cell, own in points.items()]


def require_finite(metrics: Mapping[str, float], path: Path) -> None:
    """Raise Diverged naming every metric that is NaN or infinite."""
    bad = [f"{key} = {value}" for key, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise Diverged(
            f"{path}: not finite: {'; '.join(bad[:5])}; nothing was logged: lower tune.lr and train again"
        )


def without_credentials(text: str) -> str:
    """Return a text whose URLs have their user and password masked."""
    return _USERINFO.sub("***@", text)


def _entry(params: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    found = params[section].get(name)
    named = section in ("asks", "answers")
    if not isinstance(found, Mapping) or (named and "teacher" not in found):
        raise ParamsError(
            f"params.yaml: {section}.{name}: this entry is used and missing or not complete"
        )
    return found


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, path)
        else:
            yield path, inner
