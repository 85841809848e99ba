"""Attention in blocks is torch's attention: as near to exact arithmetic, values and gradients."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from medslm.models import load_causal_lm
from medslm.student import attention
from medslm.student.attention import NAME, use_blocks
from medslm.student.padding import padded_ids

MODULE = SimpleNamespace(is_causal=True, num_key_value_groups=3)


def inputs(tokens, dtype):
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, tokens, 16), (2, 2, tokens, 16), (2, 2, tokens, 16)]
    made = [torch.randn(*shape, generator=generator) for shape in shapes]
    return [m.to(torch.bfloat16).to(dtype).requires_grad_() for m in made]


def outcome(attend, tokens, dtype):
    """Return output and gradients in fp32 for inputs that bf16 holds exactly."""
    import torch

    made = inputs(tokens, dtype)
    out = attend(*made)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape).to(dtype)
    torch.autograd.backward(out, weights)
    return [out.detach().float(), *(m.grad.float() for m in made)]


def fused(q, k, v):
    import torch

    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2)


def blocks(q, k, v):
    return attention._attend(MODULE, q, k, v, None)[0]


def distance(one, two):
    return float((one - two).norm() / two.norm())


@pytest.mark.parametrize("tokens", [64, 96, 130, 320])
def test_in_fp32_blocks_are_the_fused_kernel(tokens):
    import torch

    for ours, theirs in zip(
        outcome(blocks, tokens, torch.float32), outcome(fused, tokens, torch.float32), strict=True
    ):
        assert distance(ours, theirs) < 1e-5


@pytest.mark.parametrize("tokens", [96, 320])
def test_in_bf16_blocks_are_as_exact_as_the_fused_kernel(tokens):
    import torch

    exact = outcome(fused, tokens, torch.float32)
    ours = outcome(blocks, tokens, torch.bfloat16)
    theirs = outcome(fused, tokens, torch.bfloat16)

    for mine, other, truth in zip(ours, theirs, exact, strict=True):
        assert distance(mine, truth) < max(0.01, 2 * distance(other, truth))


def test_a_query_that_sees_its_successor_would_show():
    """Control for both: without the mask inside a block the results differ."""
    import torch

    def seeing(q, k, v):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return out.transpose(1, 2)

    ours = outcome(blocks, 96, torch.float32)
    theirs = outcome(seeing, 96, torch.float32)

    assert all(distance(a, b) > 0.05 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("case", ["mask", "not causal", "cache", "short"])
def test_what_is_not_plain_goes_the_usual_way(case, monkeypatch):
    import torch

    def used(*_):
        raise AssertionError("blocks were used")

    monkeypatch.setattr(attention, "_function", used)
    q, k, v = inputs(20 if case == "short" else 96, torch.float32)
    mask = torch.ones(1, 1, 96, 96, dtype=torch.bool) if case == "mask" else None
    if case == "cache":
        q = q[:, :, -3:]

    causal = False if case == "not causal" else None
    out, _ = attention._attend(MODULE, q, k, v, mask, is_causal=causal)

    assert out.shape == (2, q.shape[2], 6, 16)
    if case == "short":
        assert torch.allclose(out, fused(q, k, v), atol=1e-6)
    else:
        with pytest.raises(AssertionError, match="blocks were used"):
            attention._attend(MODULE, *inputs(96, torch.float32), None)


def test_a_bf16_model_attends_in_blocks_and_an_fp32_one_does_not(tiny_llama):
    import torch

    exact = load_causal_lm(str(tiny_llama), revision=None, dtype="float32").model
    assert not use_blocks(exact)
    assert exact.config._attn_implementation == "sdpa"
    model = load_causal_lm(str(tiny_llama), revision=None, dtype="bfloat16").model
    ids = padded_ids([[7] * 90, [8, 9] * 45])
    with torch.no_grad():
        before = model(input_ids=ids).logits.float()
        masked = model(input_ids=ids, attention_mask=torch.ones_like(ids).tril()).logits.float()

        assert use_blocks(model)
        after = model(input_ids=ids).logits.float()
        again = model(input_ids=ids, attention_mask=torch.ones_like(ids).tril()).logits.float()

    assert model.config._attn_implementation == NAME
    assert distance(after, before) < 0.03
    assert not torch.equal(after, before)
    assert torch.equal(masked, again)
    assert distance(masked, before) > 0.03
    assert math.isfinite(float(after.sum()))
