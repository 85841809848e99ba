"""The last layer only where its output is read: queries, output and MLP of the answer position alone.

Keys and values of all positions are still needed. What is left out is 94 % of a LLaMA layer's weights
times all tokens but one, forward and backward.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

# Per model_type, stretches of the last layer that treat every position alone, each by the module it
# begins and the one it ends with; between them nothing looks at other positions.
_LLAMA = [("self_attn.q_proj",) * 2, ("self_attn.o_proj",) * 2, ("mlp",) * 2]
_ALONE = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gpt2": [("attn.c_proj",) * 2, ("mlp",) * 2],  # one product makes queries, keys and values
    "biogpt": [("self_attn.q_proj",) * 2, ("self_attn.out_proj",) * 2, ("fc1", "fc2")],
}


@contextlib.contextmanager
def answer_only(body: Any, lengths: Sequence[int]) -> Iterator[None]:
    """Inside, the body's output is right at the last token of each prompt and nowhere else.

    ``lengths`` are those of the prompts in the batch. Bodies of unknown make are left as they are.
    """
    import torch

    device = next(body.parameters()).device
    last = (torch.tensor(lengths, device=device) - 1)[:, None, None]
    width = 0

    def take(_module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal width
        hidden = given[0]
        width = hidden.shape[1]
        return hidden.take_along_dim(last, dim=1), *given[1:]

    def spread(_module: Any, _given: tuple[Any, ...], out: Any) -> Any:
        return out.expand(-1, width, -1)

    handles = []
    for first, final in _ALONE.get(body.config.model_type, []):
        layer = (body.h if hasattr(body, "h") else body.layers)[-1]
        handles.append(layer.get_submodule(first).register_forward_pre_hook(take))
        handles.append(layer.get_submodule(final).register_forward_hook(spread))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
