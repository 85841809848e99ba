"""The fused products are peft's: values, gradients and what training makes of them."""

from __future__ import annotations

import pytest

from medslm.models import load_causal_lm
from medslm.student.fused import fuse_lora
from medslm.student.lora import add_lora
from medslm.student.padding import padded_ids

PROMPTS = [[5 + i] * length for i, length in enumerate((40, 51, 60, 33))]


@pytest.fixture(params=["float32", "bfloat16"])
def loaded(tiny_llama, request):
    return load_causal_lm(str(tiny_llama), revision=None, dtype=request.param)


def adapted(loaded, *, dropout=0.0):
    """Return a model whose adapters have moved: a fresh B is zero and hides what is wrong with A."""
    import torch

    torch.manual_seed(0)
    model = add_lora(
        loaded, r=4, alpha=8, dropout=dropout, targets="all-linear", layers="top-3"
    ).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def outcome(loaded, model):
    """Return the output and the gradient of every adapter weight, in fp32."""
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=loaded.dtype == "bfloat16"):
        out = model(input_ids=padded_ids(PROMPTS)).logits.float()
    weights = torch.linspace(-1, 1, out.shape[-1])
    torch.autograd.backward((out.softmax(-1) * weights).sum())
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return out.detach(), gradients


def close(one, two, tolerance):
    return float((one - two).norm() / two.norm()) < tolerance


def test_values_and_gradients_are_pefts(loaded):
    tolerance = 1e-5 if loaded.dtype == "float32" else 0.03
    model = adapted(loaded)
    out, gradients = outcome(loaded, model)

    count = fuse_lora(model)
    fused_out, fused_gradients = outcome(loaded, model)

    assert count == 3 * 7
    assert close(fused_out, out, tolerance)
    assert gradients.keys() == fused_gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.dtype == fused_gradients[name].dtype
        assert close(fused_gradients[name], gradient, tolerance), name


def test_another_scale_would_show(loaded):
    """Control: adapters that weigh twice as much are further away than rounding is."""
    model = adapted(loaded)
    out, gradients = outcome(loaded, model)
    for layer in model.modules():
        if isinstance(getattr(layer, "scaling", None), dict):
            layer.scaling = {name: 2 * value for name, value in layer.scaling.items()}

    fuse_lora(model)
    other, other_gradients = outcome(loaded, model)

    assert not close(other, out, 0.03)
    assert not all(close(other_gradients[name], gradients[name], 0.03) for name in gradients)


def test_layers_with_dropout_keep_pefts_way(loaded):
    assert fuse_lora(adapted(loaded, dropout=0.1)) == 0


def test_unloading_leaves_the_base_as_it_was(loaded):
    import torch

    def answer():
        with torch.no_grad():
            return loaded.model(input_ids=padded_ids(PROMPTS)).logits

    before = answer()
    model = adapted(loaded)
    assert fuse_lora(model) == 21

    model.unload()

    assert torch.equal(answer(), before)
