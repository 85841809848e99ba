"""Cached mode, writing: states below the first adapted layer, computed once per distinct prompt.

``out/<identity>/`` holds the states in parts, ``out/<name>.json`` what one reader needs of them: the
hash of every prompt's states, so that DVC reruns a reader only when its own prompts changed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medslm.errors import IntegrityError
from medslm.files import dump_json, write_text
from medslm.models import Loaded
from medslm.student.cached import Prompt, prompt_key, states_identity
from medslm.student.frozen import FrozenLayers, frozen_below
from medslm.student.parts import (
    Part,
    Segment,
    drop_part,
    first_rows,
    map_part,
    raw_bytes,
    read_parts,
    write_part,
)
from medslm.student.prefixes import Group, groups

log = logging.getLogger(__name__)

# A kill loses at most one part: half a minute of SmolLM2 on two cores.
PART_BYTES = 32 << 20


class Built(NamedTuple):
    """How many distinct prompts were computed, and how many were there already."""

    computed: int
    kept: int


def build(
    out: Path,
    wanted: Mapping[str, Sequence[Prompt]],
    loaded: Loaded,
    first: int,
    *,
    batch_size: int,
    part_bytes: int = PART_BYTES,
) -> Built:
    """Make ``out`` hold the states below layer ``first`` of all prompts, and one index per name.

    What is there already stays, byte for byte; what nobody wants any more goes; a damaged part is
    named and computed again. With nothing frozen (``first`` 0, an unknown body) the indexes are empty.
    """
    total = loaded.model.config.num_hidden_layers
    frozen = frozen_below(loaded.model.base_model, range(first, total)) if first else None
    out.mkdir(parents=True, exist_ok=True)
    if frozen is None:
        _forget(out, wanted, keep=None)
        for name in wanted:
            _write_index(out / f"{name}.json", None, {})
        return Built(0, 0)
    identity = states_identity(loaded, first)
    folder = out / identity[:16]
    _forget(out, wanted, keep=folder)
    prompts = {prompt_key(ids): ids for chosen in wanted.values() for ids in chosen}
    store = _Store(folder, loaded.model.config.hidden_size, loaded.dtype, part_bytes)
    missing = sum(key not in store.known for key in prompts)
    if missing:
        store.compute(prompts, frozen, batch_size)
    store.keep_only(prompts)
    head = {"identity": identity, "first": first, "width": store.width, "dtype": loaded.dtype}
    for name, chosen in wanted.items():
        hashes = {key: store.known[key].sha256 for key in map(prompt_key, chosen)}
        _write_index(out / f"{name}.json", head, hashes)
    return Built(missing, len(prompts) - missing)


class _Store:
    """The parts of one identity while they grow."""

    def __init__(self, folder: Path, width: int, dtype: str, part_bytes: int) -> None:
        self.folder, self.width, self.dtype = folder, width, dtype
        self.part_bytes = part_bytes
        self.maps: dict[int, Any] = {}
        self.parts = self._whole_parts()
        self.known = {
            key: entry
            for part in self.parts.values()
            for key, entry in part.prompts.items()
            if all(segment.part in self.parts for segment in entry.segments)
        }

    def compute(self, prompts: Mapping[str, Prompt], frozen: FrozenLayers, batch_size: int) -> None:
        """Compute what is missing; beginnings that a known prompt has are pointed at, not stored again."""
        keys, ids = list(prompts), list(prompts.values())
        todo: list[Group] = []
        heads: dict[int, list[Segment]] = {}
        for group in groups(ids):
            new = [m for m in group.members if keys[m] not in self.known]
            old = [m for m in group.members if keys[m] in self.known]
            if new:
                todo.append(Group(new, group.shared))
            if new and old:
                heads[new[0]] = first_rows(self.known[keys[old[0]]].segments, group.shared)
        part = _NewPart(self)
        for group, row in frozen.states(ids, todo, batch_size):
            rests = [(keys[m], len(ids[m]) - group.shared) for m in group.members]
            part.add(row.cpu(), group.shared, rests, heads.get(group.members[0]))
            if part.bytes >= self.part_bytes:
                part.close()
                part = _NewPart(self)
        part.close()

    def keep_only(self, prompts: Iterable[str]) -> None:
        """Remove parts that none of these prompts needs."""
        needed = {segment.part for key in prompts for segment in self.known[key].segments}
        for number in sorted(set(self.parts) - needed):
            drop_part(self.folder, number)

    def _whole_parts(self) -> dict[int, Part]:
        found = {}
        for number, part in read_parts(self.folder).items():
            try:
                self.maps[number] = map_part(self.folder, part, self.width, self.dtype)
                found[number] = part
            except IntegrityError as exc:
                log.warning("%s: computed again", exc)
                drop_part(self.folder, number)
        for file in self.folder.glob("part-*.bin"):  # a kill left its rows without an index
            if int(file.stem.removeprefix("part-")) not in found:
                file.unlink()
        return found


class _NewPart:
    """Rows and prompts gathered until they are worth a file."""

    def __init__(self, store: _Store) -> None:
        self.store = store
        # Indexes point at their own or an earlier part, so the number after the last is free.
        self.number = max(store.parts, default=-1) + 1
        self.blocks: list[Any] = []
        self.rows = self.bytes = 0
        self.prompts: dict[str, list[Segment]] = {}
        self.hashes: dict[str, str] = {}

    def add(
        self, row: Any, shared: int, rests: list[tuple[str, int]], head: list[Segment] | None
    ) -> None:
        """Take a group's states: shared tokens, unless ``head`` says where they are, then each rest."""
        digest = hashlib.sha256()
        if head is None:
            head = [Segment(self.number, self.rows, shared)]
            digest.update(raw_bytes(row[:shared]))
            self._store(row[:shared])
        else:
            for at in head:
                digest.update(raw_bytes(self.store.maps[at.part][at.row : at.row + at.rows]))
        start = shared
        for key, length in rests:
            rest = row[start : start + length]
            start += length
            whole = digest.copy()
            whole.update(raw_bytes(rest))
            self.prompts[key] = [*head, Segment(self.number, self.rows, length)] if length else head
            self.hashes[key] = whole.hexdigest()
            self._store(rest)

    def close(self) -> None:
        """Write the part and let the store know its prompts."""
        import torch

        if not self.rows:
            return
        folder, rows = self.store.folder, torch.cat(self.blocks)
        folder.mkdir(parents=True, exist_ok=True)
        part = write_part(folder, self.number, rows, self.prompts, self.hashes)
        self.store.parts[self.number] = part
        self.store.known |= part.prompts

    def _store(self, rows: Any) -> None:
        if len(rows):
            self.blocks.append(rows)
            self.rows += len(rows)
            self.bytes += rows.numel() * rows.element_size()


def _write_index(path: Path, head: dict[str, Any] | None, prompts: dict[str, str]) -> None:
    body = {**(head or {"identity": None, "first": 0}), "prompts": prompts}
    write_text(path, dump_json(body, indent=0) + "\n")


def _forget(out: Path, wanted: Iterable[str], *, keep: Path | None) -> None:
    """Remove states of other identities and indexes that nobody reads."""
    names = {f"{name}.json" for name in wanted}
    for path in sorted(out.iterdir()):
        if path.is_dir() and path != keep:
            log.info("%s: states of another model, layer or version: removed", path)
            shutil.rmtree(path)
        elif path.is_file() and path.name not in names:
            path.unlink()
