"""What changed between two states: keys of nested settings, rows with an id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

V = TypeVar("V")


class Changes(NamedTuple):
    """Ids, sorted: only after, only before, and in both with another content."""

    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    changed: tuple[str, ...]

    def any(self) -> bool:
        """Return whether there is any."""
        return bool(self.appeared or self.vanished or self.changed)


class Setting(NamedTuple):
    """A setting that changed; None stands for one that was or is not there."""

    key: str
    before: str | None
    after: str | None


def changes(before: Mapping[str, V], after: Mapping[str, V]) -> Changes:
    """Return what changed between two tables by id."""
    return Changes(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(key for key in before.keys() & after.keys() if before[key] != after[key])),
    )


def settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Setting]:
    """Return the settings that differ, by key, nested keys joined by dots."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Setting(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _leaves(value: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, path)
        else:
            yield path, str(inner)
