"""The fused norms are transformers': the same values bit for bit, gradients up to rounding."""

from __future__ import annotations

import pytest

from medslm.models import load_causal_lm
from medslm.student.norms import fuse_norms


@pytest.fixture
def norm(tiny_llama):
    """Return a frozen bf16 norm of a model, its weights drawn: a fresh one has only ones."""
    import torch

    model = load_causal_lm(str(tiny_llama), revision=None, dtype="bfloat16").model
    torch.manual_seed(0)
    with torch.no_grad():
        model.model.norm.weight.normal_(1, 0.2)
    return model.model.norm.requires_grad_(False)


def outcome(norm, rows=700):
    """Return values and gradient for more rows than are done at a time."""
    import torch

    x = torch.randn(2, rows // 2, norm.weight.shape[-1], generator=torch.Generator().manual_seed(1))
    x = x.to(torch.bfloat16).requires_grad_()
    y = norm(x)
    torch.autograd.backward((y.float() * torch.linspace(-1, 1, y.shape[-1])).sum())
    return y.detach(), x.grad


def test_values_are_the_same_bits_and_gradients_close(norm):
    import torch

    values, gradient = outcome(norm)
    assert fuse_norms(norm) == 1
    again, fused = outcome(norm)

    assert torch.equal(again, values)
    assert fused.dtype == gradient.dtype
    # one rounding to bf16 is 0.4 %
    assert float((fused - gradient).norm() / gradient.norm()) < 0.01


def test_another_constant_would_show(norm):
    """Control: what the check at the start compares does depend on the constant."""
    import torch

    values, _ = outcome(norm)
    norm.variance_epsilon *= 1e6

    assert not torch.equal(outcome(norm)[0], values)


def test_a_norm_that_computes_something_else_is_left_alone(norm):
    class OtherRMSNorm(type(norm)):
        def forward(self, x):
            return super().forward(x) * 2

    norm.__class__ = OtherRMSNorm

    assert fuse_norms(norm) == 0


def test_a_norm_that_is_trained_later_gets_its_gradient(norm):
    assert fuse_norms(norm) == 1
    norm.requires_grad_(True)

    outcome(norm)

    assert norm.weight.grad is not None
    assert bool(norm.weight.grad.abs().sum() > 0)


def test_trained_and_fp32_norms_are_left_alone(tiny_llama):
    whole = load_causal_lm(str(tiny_llama), revision=None, dtype="float32").model
    trained = load_causal_lm(str(tiny_llama), revision=None, dtype="bfloat16").model

    assert fuse_norms(whole.requires_grad_(False)) == 0
    assert fuse_norms(trained.requires_grad_(True)) == 0
    assert fuse_norms(trained.requires_grad_(False)) == 2 * trained.config.num_hidden_layers + 1
