from __future__ import annotations

import pytest

from medslm.student.last_layer import answer_only
from medslm.student.lora import add_lora
from medslm.student.padding import padded_ids
from tests.student.bodies import FAMILIES, tiny_loaded

PROMPTS = [list(range(10, 70)), list(range(100, 133)), list(range(200, 290)), [7, 8]]
LENGTHS = [len(prompt) for prompt in PROMPTS]


def answers(body):
    import torch

    hidden = body(input_ids=padded_ids(PROMPTS), use_cache=False).last_hidden_state
    return hidden[torch.arange(len(PROMPTS)), torch.tensor(LENGTHS) - 1]


@pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out"
)  # peft says so of GPT-2's layers and corrects it
@pytest.mark.parametrize("family", [*FAMILIES, "gemma2"])
def test_the_answer_position_and_its_gradients_are_those_of_the_whole_layer(family):
    import torch

    loaded = tiny_loaded(family)
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="top-2")
    body = model.get_base_model().base_model
    weights = [p for p in model.parameters() if p.requires_grad]
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.1)

    whole = answers(body)
    expected = torch.autograd.grad(whole.square().sum(), weights)
    with answer_only(body, LENGTHS):
        alone = answers(body)
    found = torch.autograd.grad(alone.square().sum(), weights)
    with answer_only(body, [n - 1 for n in LENGTHS]):
        early = answers(body)

    assert torch.allclose(alone, whole, atol=1e-4, rtol=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-3 * float(other.norm()))
    if family != "gemma2":  # not known here: left as it is
        assert not torch.allclose(early, whole, atol=1e-2)
    assert torch.equal(answers(body), whole)


def test_it_saves_the_products_it_promises():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    body = tiny_loaded("llama").model.base_model
    flops = {}
    for name, lengths in (("whole", None), ("alone", LENGTHS)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if lengths is None:
                answers(body)
            else:
                with answer_only(body, lengths):
                    answers(body)
        flops[name] = counter.get_flop_counts()["Global"][torch.ops.aten.mm]

    # hidden 32, MLP 64, two of four key-value heads of 8: of 9,216 weights a layer 8,192 rest, in one of 4
    assert flops["alone"] / flops["whole"] == pytest.approx(1 - 8192 / 9216 / 4, abs=0.01)
