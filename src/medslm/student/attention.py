"""Causal attention in blocks of queries, for bf16 on a CPU, where torch's fused kernel is slow.

Each block of 64 queries sees only the keys up to its end, so that half of the products are never made,
and the products are plain batched ones, which oneDNN runs in bf16. On 8 x 352 tokens of SmolLM2's shape
forward and backward take 25 ms against 68 by the fused kernel (two cores, docs/log.md), which counts:
by torch it is 5 % of the operations and a third of the time of a step.
"""

from __future__ import annotations

import functools
import math
from typing import Any

NAME = "medslm-blocks"
_BLOCK = 64


def use_blocks(model: Any) -> bool:
    """Let a causal LM attend in blocks where that is faster; return whether it does.

    That is bf16 on a CPU without AMX's own kernels, for models that take transformers' attention
    interface. Whatever is not plain causal attention (a mask, a cache, dropout) goes the usual way.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.bfloat16:
        return False
    if model.config._attn_implementation not in ("sdpa", NAME):
        return False
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Any, None]:
    """Attend as transformers' interface has it: (batch, heads, tokens, size) in, heads third out."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    plain = attention_mask is None and causal and not dropout and query.shape[2] == key.shape[2]
    # layers that are trained in fp32 hand over other dtypes under autocast, which sdpa evens out
    plain = plain and query.dtype == key.dtype == value.dtype
    if not plain or query.shape[2] < _BLOCK or others.get("position_bias") is not None:
        usual = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            **others,
        )
        return usual[0], None
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    return _function().apply(query, key, value, scale).transpose(1, 2), None


@functools.cache
def _function() -> Any:
    """Return the autograd function; torch is imported only here."""
    import torch

    class Blocks(torch.autograd.Function):
        """softmax(q k' scale) v over the keys up to each query; heads of q may share keys and values."""

        @staticmethod
        def forward(ctx: Any, q: Any, k: Any, v: Any, scale: float) -> Any:
            batch, heads, tokens, size = q.shape
            groups = batch * k.shape[1]
            q = (q * scale).reshape(groups, -1, tokens, size)
            k, v = k.reshape(groups, tokens, size), v.reshape(groups, tokens, size)
            out, shares = torch.empty_like(q), []
            for rows in _blocks(tokens):
                queries, end = q[:, :, rows].reshape(groups, -1, size), rows.stop
                scores = torch.bmm(queries, k[:, :end].transpose(1, 2))
                scores = scores.view(groups, -1, end - rows.start, end)
                scores[..., rows].masked_fill_(_later(end - rows.start), -math.inf)
                share = torch.softmax(scores, -1).view(groups, -1, end)
                out[:, :, rows] = torch.bmm(share, v[:, :end]).view(
                    groups, -1, end - rows.start, size
                )
                shares.append(share)
            ctx.save_for_backward(q, k, v, *shares)
            ctx.scale = scale
            return out.view(batch, heads, tokens, size)

        @staticmethod
        def backward(ctx: Any, dout: Any) -> Any:
            q, k, v, *shares = ctx.saved_tensors
            batch, _, tokens, size = dout.shape
            groups = q.shape[0]
            dout = dout.reshape(q.shape)
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for rows, share in zip(_blocks(tokens), shares, strict=True):
                end = rows.stop
                part = dout[:, :, rows].reshape(groups, -1, size)
                dv[:, :end] += torch.bmm(share.transpose(1, 2), part)
                dshare = torch.bmm(part, v[:, :end].transpose(1, 2))
                dscores = torch._softmax_backward_data(dshare, share, -1, share.dtype)
                dq[:, :, rows] = torch.bmm(dscores, k[:, :end]).view(
                    groups, -1, end - rows.start, size
                )
                queries = q[:, :, rows].reshape(groups, -1, size)
                dk[:, :end] += torch.bmm(dscores.transpose(1, 2), queries)
            dq *= ctx.scale
            shape = (batch, -1, tokens, size)
            return dq.view(shape), dk.view(shape), dv.view(shape), None

    return Blocks


def _blocks(tokens: int) -> list[slice]:
    return [slice(at, min(tokens, at + _BLOCK)) for at in range(0, tokens, _BLOCK)]


@functools.cache
def _later(size: int) -> Any:
    """Return a mask of the pairs whose key comes after their query."""
    import torch

    return torch.ones(size, size, dtype=torch.bool).triu_(1)
