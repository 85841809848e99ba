"""What dvc.lock says: the identity of a variant's results, and the MD5 every file must have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medslm.data.entries import STAGES_OF, current
from medslm.errors import DataError, IntegrityError
from medslm.files import sha256_of_json
from medslm.params import load_value

Lock = dict[str, dict[str, Any]]

# The stages whose commands, params, inputs and outputs make a variant's results what they are.
# Everything before them enters through the hashes of their inputs.
VARIANT_STAGES = ("mix", "train", "predict", "score")


def read_lock(path: Path, params: Mapping[str, Any] | None) -> Lock:
    """Return the stages of a dvc.lock that ``params`` (asks, variants, answers) still has; None: all.

    DataError if it is missing, cut or holds merge markers.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        # YAML 1.2, as DVC writes it: in 1.1 a key `yes`, one of our answers, would read as True.
        body = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `dvc repro` first") from None
    except (YAMLError, UnicodeDecodeError) as exc:
        first = " ".join(str(exc).split())
        raise DataError(
            f"{path}: not a dvc.lock ({first}); take it from git and run `dvc repro`"
        ) from exc
    stages = body.get("stages") if isinstance(body, dict) else None
    if not isinstance(stages, dict) or not all(
        isinstance(s, dict) and "cmd" in s for s in stages.values()
    ):
        raise DataError(f"{path}: not a dvc.lock (no stages); take it from git and run `dvc repro`")
    return stages if params is None else current(stages, params)


def entries_of(params: Path) -> dict[str, Any]:
    """Return what `read_lock` wants to know of a params.yaml."""
    return {section: load_value(params, section) for section in STAGES_OF}


def variant_stages(lock: Lock, variant: str) -> list[str]:
    """Return the names of a variant's stages; DataError naming those that never ran."""
    names = [f"{stage}@{variant}" for stage in VARIANT_STAGES]
    _require_stages(lock, names)
    return names


def baseline_stages(lock: Lock, score: str, predictions: str) -> list[str]:
    """Return the stages that made a baseline's score and predictions, found by their outputs."""
    names = []
    for path in (predictions, score):
        made_by = [name for name, stage in lock.items() if path in _entries(stage, "outs")]
        if not made_by:
            raise DataError(f"dvc.lock: no stage made {path}; run `dvc repro`")
        names.append(made_by[0])
    return sorted(set(names))


def variant_fingerprint(lock: Lock, name: str) -> str:
    """Return the fingerprint of a variant's results; DataError naming stages that never ran."""
    return fingerprint(lock, variant_stages(lock, name))


def baseline_fingerprint(lock: Lock, name: str, score: str) -> str:
    """Return that of a baseline's; its name is part of it, since one stage may make several."""
    made = baseline_stages(lock, score, f"data/predictions/{name}.jsonl")
    return fingerprint(lock, made, about=name)


def fingerprint(lock: Lock, names: Iterable[str], *, about: str | None = None) -> str:
    """Return the SHA-256 of what the named stages ran, read and wrote; sizes and times are left out.

    Equal fingerprints mean equal commands, params, inputs (code is one) and outputs; going back to
    old params gives the old fingerprint back. ``about`` tells apart several results of the same
    stages.
    """
    names = list(names)
    _require_stages(lock, names)
    body: dict[str, object] = {
        name: {
            "cmd": lock[name]["cmd"],
            "params": lock[name].get("params"),
            "deps": _entries(lock[name], "deps"),
            "outs": _entries(lock[name], "outs"),
        }
        for name in names
    }
    return sha256_of_json(body if about is None else {"about": about, "stages": body})


def md5_in_lock(lock: Lock, path: str) -> str | None:
    """Return the MD5 that dvc.lock records for a path, or for the nearest folder it tracks around it.

    A folder's ends in ``.dir``; None if no stage reads or writes the path.
    """
    known: dict[str, str] = {}
    for kind in ("deps", "outs"):  # who wrote a path knows best
        for stage in lock.values():
            known |= _entries(stage, kind)
    wanted = Path(path)
    for candidate in (wanted, *wanted.parents):
        if candidate.as_posix() in known:
            return known[candidate.as_posix()]
    return None


def require_as_locked(lock: Lock, root: Path, paths: Sequence[str]) -> None:
    """Raise IntegrityError unless each file or folder under ``root`` is what dvc.lock says it is.

    Without this a file edited by hand would be logged under the fingerprint of another one.
    """
    for path in paths:
        expected = {e[path] for s in lock.values() if path in (e := _entries(s, "outs"))}
        if not expected:
            raise DataError(f"dvc.lock: no stage made {path}; run `dvc repro`")
        found = md5_of(root / path)
        if found not in expected:
            raise IntegrityError(
                f"{path}: md5 is {found}, dvc.lock says {', '.join(sorted(expected))}; "
                "it was changed by hand or is out of date: run `dvc checkout` or `dvc repro`"
            )


def md5_of(path: Path) -> str:
    """Return DVC's MD5 of a file, or of a folder: that of its sorted list of files, ending in ``.dir``.

    The folder's form is DVC's own (dvc_data.hashfile.tree.Tree, DVC 3).
    """
    if path.is_file():
        with path.open("rb") as stream:
            return str(hashlib.file_digest(stream, _md5).hexdigest())
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; run `dvc checkout` or `dvc repro`")
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    listing = [{"md5": md5_of(path / file), "relpath": file} for file in files]
    return f"{_md5(json.dumps(listing, sort_keys=True).encode()).hexdigest()}.dir"


def _md5(data: bytes = b"") -> Any:
    """DVC's hash: it finds changes, it protects nothing."""
    return hashlib.md5(data, usedforsecurity=False)


def _require_stages(lock: Lock, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in lock]
    if missing:
        raise DataError(f"dvc.lock: never ran: {', '.join(missing)}; run `dvc repro`")


def _entries(stage: dict[str, Any], kind: str) -> dict[str, str]:
    """Map each dependency or output to its MD5; what DVC tracks by other means has an empty one."""
    return {str(entry["path"]): str(entry.get("md5", "")) for entry in stage.get(kind, [])}
