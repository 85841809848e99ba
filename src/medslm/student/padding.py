"""Prompts of different lengths as one block: padded on the right, without a mask.

With causal attention nothing behind the answer position can reach it, so no mask is needed, and the
fused attention kernel stays in use: a dense mask doubles the cost of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Lengths are rounded up to this: few distinct shapes keep the allocator and the kernel cache small.
LENGTH_STEP = 32


def padded_width(lengths: Sequence[int], limit: int | None = None) -> int:
    """Return the longest length rounded up to a multiple of 32, but not past ``limit`` positions."""
    longest = max(lengths)
    rounded = -(-longest // LENGTH_STEP) * LENGTH_STEP
    return rounded if limit is None else max(longest, min(rounded, limit))


def padded_ids(prompts: Sequence[Sequence[int]], limit: int | None = None) -> Any:
    """Return token ids as a tensor (prompts, width), zeros behind each prompt."""
    import torch

    width = padded_width([len(p) for p in prompts], limit)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids
