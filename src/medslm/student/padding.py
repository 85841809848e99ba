"""Prompts of different lengths as one block: padded on the right, without a mask.

With causal attention nothing behind the answer position can reach it, so no mask is needed, and the
fused attention kernel stays in use: a dense mask doubles the cost of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Lengths are rounded up to this: few distinct shapes keep the allocator and the kernel cache small.
LENGTH_STEP = 32


def padded_width(lengths: Sequence[int]) -> int:
    """Return the longest length rounded up to a multiple of 32."""
    return -(-max(lengths) // LENGTH_STEP) * LENGTH_STEP


def padded_ids(prompts: Sequence[Sequence[int]]) -> Any:
    """Return token ids as a tensor (prompts, width), zeros behind each prompt."""
    import torch

    ids = torch.zeros(len(prompts), padded_width([len(p) for p in prompts]), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids
