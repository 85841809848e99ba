"""Where a registered version or a run comes from: back to the raw bytes, and how to make it again."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medslm.data.fetch import raw_file
from medslm.errors import DataError, MedslmError
from medslm.files import sha256_of
from medslm.params import load_value
from medslm.tracking import bytes_at, lockfile, registry
from medslm.tracking.chain import Link, chain
from medslm.tracking.lockfile import Lock
from medslm.tracking.registry import MANIFEST_SHA256, VARIANT, Version
from medslm.tracking.store import FINGERPRINT, Store

MIX = "mix@"


@dataclass(frozen=True)
class Origin:
    """A run, what it was made from (its own copies of dvc.lock and params.yaml), and its versions."""

    run_id: str
    variant: str
    kind: str
    fingerprint: str
    lock: Lock
    params: Mapping[str, Any]
    versions: Sequence[Version]

    @property
    def ends(self) -> list[str]:
        """The stages that the fingerprint is over."""
        if self.kind == "variant":
            return lockfile.variant_stages(self.lock, self.variant)
        score, said = f"metrics/score/{self.variant}.json", f"data/predictions/{self.variant}.jsonl"
        return lockfile.baseline_stages(self.lock, score, said)

    @property
    def about(self) -> str | None:
        """What tells several results of the same stages apart."""
        return None if self.kind == "variant" else self.variant


def of_run(store: Store, name: str, run_id: str) -> Origin:
    """Return the origin of a run, of a cell's run that of its variant; DataError if it is not ours."""
    run = registry.run_of(store, run_id)
    if run is None:
        raise DataError(f"run {run_id}: MLflow has no such run; `medslm models` lists the versions")
    if parent := run.data.tags.get("mlflow.parentRunId"):
        return of_run(store, name, parent)
    tags = run.data.tags
    if FINGERPRINT not in tags:
        raise DataError(f"run {run_id}: was not logged by `track`; it has no fingerprint")
    with tempfile.TemporaryDirectory() as folder:
        files = {n: _artifact(store, run_id, n, folder) for n in ("dvc.lock", "params.yaml")}
        params = {key: load_value(files["params.yaml"], key) for key in ("data",)}
        return Origin(
            run_id=run_id,
            variant=tags[VARIANT],
            kind=tags["medslm.kind"],
            fingerprint=tags[FINGERPRINT],
            lock=lockfile.read_lock(files["dvc.lock"], lockfile.entries_of(files["params.yaml"])),
            params=params,
            versions=[v for v in registry.versions(store, name) if v.run_id == run_id],
        )


def text(root: Path, store: Store, origin: Origin, *, reproduce: bool) -> str:
    """Return the whole chain as lines, from the version to the raw bytes; with the commands if asked."""
    links = chain(origin.lock, origin.ends)
    commit = commit_of(root, origin)
    lines = [
        *_head(store, origin),
        f"  commit       {commit or 'none in git holds it; commit, or look at its run in MLflow'}",
        *_raw(root, origin),
        "  stages, in the order they ran",
        *[line for link in links for line in _stage(link)],
        *_mix(root, origin),
    ]
    if reproduce:
        lines += ["", *commands(origin, links, commit)]
    return "\n".join(lines)


def commands(origin: Origin, links: Sequence[Link], commit: str | None) -> list[str]:
    """Return the shell lines that bring the results back, and those that make them from nothing."""
    start = (
        f"git checkout {commit}"
        if commit
        else "# no commit holds these results: this is dvc.lock's"
    )
    targets = " ".join(link.stage for link in links if link.stage in origin.ends)
    return [
        "# the same bytes back, from DVC's cache or a remote",
        start,
        "pip install --constraint constraints.txt --editable .",
        "dvc checkout || dvc pull",
        f"dvc repro {targets}  # runs nothing if all bytes are there",
        "",
        "# from nothing, stage by stage (replies come from .work/replies where they were paid for)",
        *[command for link in links for command in link.commands],
    ]


def commit_of(root: Path, origin: Origin) -> str | None:
    """Return the first commit whose dvc.lock has the origin's fingerprint, None if no commit has."""
    score = lockfile.md5_in_lock(origin.lock, f"metrics/score/{origin.variant}.json")
    words = ["log", "--all", "--reverse", "--format=%H", f"-S{score}", "--", "dvc.lock"]
    for commit in _git(root, *words).split():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dvc.lock"
            path.write_text(_git(root, "show", f"{commit}:dvc.lock"), encoding="utf-8")
            try:
                there = lockfile.read_lock(path, None)  # only the ends are looked at
                found = lockfile.fingerprint(there, origin.ends, about=origin.about)
            except MedslmError:
                continue  # a commit from before this variant
        if found == origin.fingerprint:
            return commit
    return None


def mix_of(origin: Origin) -> tuple[str, str] | None:
    """Return path and MD5 of the training set of a variant; None for a baseline."""
    if origin.kind != "variant":
        return None
    path = f"data/mix/{origin.variant}.jsonl"
    md5 = lockfile.md5_in_lock(origin.lock, path)
    return None if md5 is None else (path, md5)


def _head(store: Store, origin: Origin) -> Iterator[str]:
    for version in origin.versions:
        aliases = ", ".join(registry.aliases_of(store, version))
        yield f"{version.name} version {version.version}{f' ({aliases})' if aliases else ''}"
        yield f"  package      manifest sha256 {version.tags.get(MANIFEST_SHA256, 'none')}"
    if not origin.versions:
        yield f"run of {origin.kind} {origin.variant}, not registered"
    yield f"  run          {origin.run_id} ({origin.kind} {origin.variant})"
    yield f"  fingerprint  {origin.fingerprint}"


def _raw(root: Path, origin: Origin) -> Iterator[str]:
    data = origin.params["data"]
    keys = ("source", "url", "path", "revision", "sha256")
    yield f"  raw data     {', '.join(f'{key} {data[key]}' for key in keys if data.get(key))}"
    md5 = lockfile.md5_in_lock(origin.lock, "data/raw")
    if md5 is None:
        return
    yield f"               data/raw  md5 {md5}"
    folder = root / "data/raw"
    if folder.is_dir() and lockfile.md5_of(folder) == md5:
        file = raw_file(folder)
        yield f"               data/raw/{file.name}  sha256 {sha256_of(file)}"


def _stage(link: Link) -> Iterator[str]:
    yield f"    {link.stage}"
    for path, md5 in sorted(link.read.items()):
        yield f"      reads   {path}  {md5}"
    for path, md5 in sorted(link.written.items()):
        yield f"      writes  {path}  {md5}"


def _mix(root: Path, origin: Origin) -> Iterator[str]:
    mix = mix_of(origin)
    if mix is None:
        return
    file = bytes_at.find(root, *mix)
    if file is None:
        yield f"  trained on   {mix[0]}, whose bytes are not here: `dvc fetch` at its commit"
        return
    counts = Counter(str(row["source"]) for row in bytes_at.rows(file))
    yield f"  trained on   {', '.join(f'{n} {source}' for source, n in sorted(counts.items()))}"


def _artifact(store: Store, run_id: str, name: str, folder: str) -> Path:
    return Path(store.client.download_artifacts(run_id, name, folder))


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
