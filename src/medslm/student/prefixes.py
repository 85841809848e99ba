"""Prompts that begin with the same tokens, laid side by side so that the beginning is computed once.

The abstract stands first in a prompt, so the real question and the generated ones about a study
differ in their last few tokens only. A group is one row: the shared tokens, then the rest of each
prompt; every rest sees the shared tokens and itself, at the positions it has in its own prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from medslm.student.padding import padded_width

# A rest sees everything in its row through a dense mask, so a short common beginning ("Abstract: The
# aim") costs more than it saves.
_SHARED_AT_LEAST = 0.5


class Group(NamedTuple):
    """Numbers of prompts whose first ``shared`` tokens are equal; one prompt alone shares all of its own."""

    members: list[int]
    shared: int


def groups(prompts: Sequence[Sequence[int]]) -> list[Group]:
    """Return every prompt in exactly one group, whatever text or tokenizer the tokens came from.

    A prompt joins a group if at least half of it is shared. The result depends on the prompts alone,
    not on their order.
    """
    order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
    found: list[Group] = []
    for i in order:
        if found:
            # sorted, so what the first and the last of a group share, all share
            last = found[-1]
            common = min(last.shared, _common(prompts[last.members[0]], prompts[i]))
            longest = max(len(prompts[i]), *(len(prompts[m]) for m in last.members))
            if common >= _SHARED_AT_LEAST * longest:
                found[-1] = Group([*last.members, i], common)
                continue
        found.append(Group([i], len(prompts[i])))
    return found


class Rows(NamedTuple):
    """Groups as model input: ids and positions (rows, width), mask (rows, 1, width, width).

    ``positions`` and ``mask`` are None when no row has branches: then plain causal attention is
    right, and its fused kernel skips what is not seen.
    """

    ids: Any
    positions: Any
    mask: Any


def row_length(prompts: Sequence[Sequence[int]], group: Group) -> int:
    """Return how many tokens a group's row holds."""
    return group.shared + sum(len(prompts[m]) - group.shared for m in group.members)


def rows(prompts: Sequence[Sequence[int]], chosen: Sequence[Group]) -> Rows:
    """Lay out groups as padded rows: shared tokens first, then each member's rest in order."""
    import torch

    width = padded_width([row_length(prompts, g) for g in chosen])
    ids = torch.zeros(len(chosen), width, dtype=torch.long)
    positions = torch.arange(width).repeat(len(chosen), 1)
    # 0: shared, seen by all; n: rest of the n-th member; padding counts on as the last of them
    branch = torch.zeros(len(chosen), width, dtype=torch.long)
    for row, group in enumerate(chosen):
        first = prompts[group.members[0]]
        ids[row, : group.shared] = torch.tensor(first[: group.shared])
        start = group.shared
        for number, member in enumerate(group.members, start=1):
            rest = prompts[member][group.shared :]
            end = start + len(rest)
            ids[row, start:end] = torch.tensor(rest, dtype=torch.long)
            positions[row, start:end] = torch.arange(group.shared, group.shared + len(rest))
            branch[row, start:] = number
            start = end
        positions[row, start:] = 0
    if all(len(group.members) == 1 for group in chosen):
        return Rows(ids, None, None)
    seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return Rows(ids, positions, (seen & causal)[:, None])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens are equal."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
