"""Cached mode, reading: states below the first adapted layer, mapped from files, instead of those layers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medslm.errors import DataError, IntegrityError
from medslm.files import read_json, sha256_of, sha256_of_json
from medslm.models import Loaded
from medslm.student.parts import Entry, Segment, map_part, part_file, read_parts

log = logging.getLogger(__name__)

Prompt = Sequence[int]

REDO = "run `dvc repro features`"


def prompt_key(ids: Prompt) -> str:
    """Return the key of a prompt: the hash of its tokens, which hold all that wording and tokenizer do."""
    return sha256_of_json(list(ids))


def states_identity(loaded: Loaded, first: int) -> str:
    """Return a hash of everything but the tokens that shapes states: another one starts anew."""
    from importlib.metadata import version

    here = Path(__file__).parent
    code = [
        sha256_of(here / name)
        for name in ("attention.py", "frozen.py", "padding.py", "prefixes.py")
    ]
    libraries = {name: version(name) for name in ("torch", "transformers")}
    # a base packed to four bits has the hash of its files and other numbers, a GPU rounds in its own way
    base = [loaded.base_sha256, loaded.dtype, loaded.quantize, loaded.device]
    return sha256_of_json([*base, first, code, libraries])


class CachedStates:
    """Read access to one index: states of its prompts, mapped from files that were checked once.

    Raises IntegrityError for a missing or damaged part or index, with what to run. Can be sent to
    another process, which opens the files itself.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        body = _read_index(index)
        self.identity, self.first = body["identity"], body["first"]
        folder = index.parent / self.identity[:16]
        parts = read_parts(folder)
        known = {key: entry for part in parts.values() for key, entry in part.prompts.items()}
        self.entries: dict[str, Entry] = {}
        for key, sha256 in body["prompts"].items():
            entry = known.get(key)
            if entry is None or entry.sha256 != sha256:
                raise IntegrityError(f"{folder}: lacks states that {index} names; {REDO}")
            self.entries[key] = entry
        needed = {s.part for entry in self.entries.values() for s in entry.segments}
        if gone := sorted(needed - set(parts)):
            raise IntegrityError(f"{part_file(folder, gone[0])}: is missing; {REDO}")
        self.maps = {
            n: map_part(folder, parts[n], body["width"], body["dtype"]) for n in sorted(needed)
        }

    def of(self, prompts: Sequence[Prompt]) -> Sequence[Any]:
        """Return the states of prompts, each (tokens, width) made when it is taken.

        Raises DataError if a prompt is not in the index.
        """
        keys = [prompt_key(ids) for ids in prompts]
        lacking = sum(key not in self.entries for key in keys)
        if lacking:
            raise DataError(f"{self.index}: lacks {lacking} of {len(keys)} prompts; {REDO}")
        return _Mapped(self.maps, [self.entries[key].segments for key in keys])

    def __reduce__(self) -> tuple[type[CachedStates], tuple[Path]]:
        return CachedStates, (self.index,)


@dataclasses.dataclass(frozen=True)
class _Mapped(Sequence[Any]):
    maps: Mapping[int, Any]
    places: Sequence[list[Segment]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: Any) -> Any:
        import torch

        if isinstance(i, slice):
            return _Mapped(self.maps, self.places[i])
        found = [self.maps[at.part][at.row : at.row + at.rows] for at in self.places[i]]
        return found[0] if len(found) == 1 else torch.cat(found)


def open_states(index: Path, loaded: Loaded) -> CachedStates | None:
    """Return the states of an index; None, with one line, if they are another model's or there are none.

    They are another model's after a change of machine, torch or code that DVC did not see: whoever
    asked then computes for itself.
    """
    body = _read_index(index)
    if body["identity"] is None:
        return None
    if body["identity"] != states_identity(loaded, body["first"]):
        log.warning(
            "%s: made by other code or libraries, of another base or not in %s on a %s: not used; "
            "`dvc repro --force --single-item features` makes it anew",
            index,
            "nf4" if loaded.quantize else loaded.dtype,
            loaded.device,
        )
        return None
    return CachedStates(index)


def _read_index(index: Path) -> dict[str, Any]:
    body: dict[str, Any] = read_json(index)
    if not isinstance(body, dict) or not {"identity", "prompts"} <= set(body):
        raise IntegrityError(f"{index}: not an index of states; {REDO}")
    return body
