"""Which attention kernel runs: the fused one never stores tokens times tokens."""

from __future__ import annotations

import dataclasses

from medslm.student.frozen import FrozenLayers
from medslm.student.lora import add_lora
from medslm.student.scoring import AnswerHead
from tests.student.bodies import tiny_loaded

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"
PROMPTS = [list(range(10, 70)), list(range(100, 133)), [*range(10, 60), 3, 4]]


def operators(work):
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        work()
    return {event.key for event in seen.key_averages()}


def training_step(loaded):
    """Return one forward and backward pass as a cell makes it."""
    import torch

    model = add_lora(loaded, r=4, alpha=8, dropout=0.1, targets="all-linear", layers="all")
    head = AnswerHead(dataclasses.replace(loaded, model=model.train()))

    def work():
        torch.autograd.backward(head.logits(PROMPTS).square().sum())

    return work


def test_attention_is_fused_in_training_scoring_and_for_cached_states():
    """In fp32, with grouped heads (4 queries on 2 keys), forward and backward."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    loaded = tiny_loaded("llama")
    with torch.no_grad():
        scoring = operators(lambda: AnswerHead(loaded).logits(PROMPTS))
    frozen = FrozenLayers(loaded.model.base_model, 2)
    states = operators(lambda: frozen.hidden(PROMPTS, 4))
    work = training_step(loaded)
    training = operators(work)
    with sdpa_kernel(SDPBackend.MATH):
        control = operators(work)

    for seen in (scoring, states, training):
        assert FUSED in seen
        assert MATH not in seen
    assert f"{FUSED}_backward" in training
    assert FUSED not in control
    assert MATH in control
