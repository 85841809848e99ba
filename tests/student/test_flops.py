"""The formulas against torch's counter on our real steps: a slow-down fails here without a clock."""

from __future__ import annotations

import pytest

from medslm.errors import DataError
from medslm.files import read_json, write_json
from medslm.models import load_causal_lm
from medslm.student import flops
from medslm.student.flops import Recipe
from medslm.student.methods import take_off, tunable
from medslm.student.padding import padded_width
from medslm.student.plan import recipe_of
from medslm.student.rows import Labelled
from medslm.student.scoring import Scorer
from medslm.student.settings import TuneParams
from medslm.student.shapes import read_shape, shape_of
from medslm.student.tuning import Cell
from tests.student.world import TUNE

LENGTHS = (70, 75, 81, 90)
BUDGET = 1.03
R = 4


@pytest.fixture
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


@pytest.fixture
def shape(tiny_llama):
    return read_shape(str(tiny_llama), None)


def counted(work):
    """Return what torch counts; its table lacks the CPU's fused attention and products in place."""
    import torch
    from torch.utils import flop_counter

    def attention(q, k, v, *_, **__):
        return flop_counter.sdpa_flop_count(q, k, v)

    def attention_backward(out, q, k, v, *_, **__):
        return flop_counter.sdpa_backward_flop_count(out, q, k, v)

    def product_in_place(_, a, b, *__, **___):
        return 2 * a[0] * a[1] * b[1]

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    mapping = {fused: attention, back: attention_backward, torch.ops.aten.addmm_: product_in_place}
    with flop_counter.FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def prompts():
    return [[5 + i] * length for i, length in enumerate(LENGTHS)]


def cell_of(loaded, layers, *, cached, **changes):
    knobs = {"r": R, "alpha": 8, "dropout": 0.0, "layers": layers, **changes}
    model = tunable(loaded, TuneParams(**{**TUNE, **knobs}))
    knobs = {"lr": 0.01, "warmup": 0.1, "weight_decay": 0.0, "clip": 1.0, "batch_size": 4}
    return Cell(loaded, model, **knobs, epochs=1, seed=0, reuse_frozen=cached)


def step_of(loaded, layers, *, cached, **changes):
    """Return one real training step of four prompts, ready to be run."""
    cell = cell_of(loaded, layers, cached=cached, **changes)
    ready = cell._prompts([Labelled(ids, 0) for ids in prompts()])
    return lambda: cell._step(ready, [0, 1, 2, 0], [1.0] * 4, 1)


def recipe(trained, *, cached=False, method="lora"):
    return Recipe(method=method, r=R, trained=trained, cached=cached)


CONFIGURATIONS = {
    "exact, all layers": ("all", 4, False, {}),
    "exact, top 2 of 4": ("top-2", 2, False, {}),
    "cached, top 2 of 4": ("top-2", 2, True, {}),
    "cached, top 1 of 4": ("top-1", 1, True, {}),
    "exact, queries alone": ("all", 4, False, {"targets": ["q_proj"]}),
    "cached, queries and values": ("top-2", 2, True, {"targets": ["q_proj", "v_proj"]}),
    "dora, all layers": ("all", 4, False, {"method": "dora"}),
    "dora, cached": ("top-2", 2, True, {"method": "dora"}),
    "full, all layers": ("all", 4, False, {"method": "full"}),
    "full, cached, top 2 of 4": ("top-2", 2, True, {"method": "full"}),
    "full, cached, top 1 of 4": ("top-1", 1, True, {"method": "full"}),
    "prefix of 4": ("all", 4, False, {"method": "prefix", "virtual_tokens": 4}),
    "prefix of 64": ("all", 4, False, {"method": "prefix", "virtual_tokens": 64}),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_training_step_stays_within_its_budget(loaded, shape, name):
    layers, trained, cached, changes = CONFIGURATIONS[name]
    width = padded_width(LENGTHS)
    planned = recipe_of(
        shape, TuneParams(**{**TUNE, "r": R, "layers": layers, "reuse_frozen": cached, **changes})
    )
    assert (planned.trained, planned.cached) == (trained, cached)
    budget = flops.step(shape, planned, width, causal=False).total * len(LENGTHS)

    found = counted(step_of(loaded, layers, cached=cached, **changes))

    assert found <= budget * BUDGET
    assert found >= budget / BUDGET


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "lora"},
        {"method": "lora", "targets": ["q_proj"], "layers": "top-2"},
        {"method": "prefix", "virtual_tokens": 16},
        {"method": "prefix", "virtual_tokens": 64},
        {"method": "full"},
        {"method": "full", "layers": "top-2"},
    ],
)
def test_the_weights_that_are_trained_are_counted(loaded, shape, changes):
    knobs = TuneParams(**{**TUNE, "r": R, "layers": "all", **changes})
    model = tunable(loaded, knobs)
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    trained = sum(p.numel() for p in matrices)  # vectors are left out
    take_off(model)

    assert flops.trained_weights(shape, recipe_of(shape, knobs)) == trained


def test_adapters_above_attention_alone_cost_no_more_than_is_planned(loaded, shape):
    knobs = TuneParams(**{**TUNE, "r": R, "layers": "all", "targets": ["down_proj"]})
    width = padded_width(LENGTHS)
    found = counted(step_of(loaded, "all", cached=False, targets=["down_proj"]))

    budget = flops.step(shape, recipe_of(shape, knobs), width, causal=False).total * len(LENGTHS)
    assert 0.8 * budget < found < budget


def test_logits_at_every_position_break_the_budget(loaded, shape):
    """Control: the usual way of training, same model, same prompts, same loss otherwise."""
    import torch

    from medslm.student.padding import padded_ids

    cell = cell_of(loaded, "all", cached=False)
    width = padded_width(LENGTHS)

    def usual():
        logits = cell.model(input_ids=padded_ids(prompts())).logits
        torch.autograd.backward(logits.float().logsumexp(-1).mean())

    per_prompt = flops.step(shape, recipe(4), width, causal=False)
    assert counted(usual) > per_prompt.total * len(LENGTHS) * BUDGET


def test_scoring_stays_within_its_budget_and_all_positions_do_not(loaded, shape):
    import torch

    from medslm.student.padding import padded_ids

    width = padded_width(LENGTHS)
    sizes = {"layers": 4, "adapted": 0, "r": 0, "causal": False}
    one = flops.forward(shape, width, **sizes) + flops.head(shape)
    alone = flops.forward(shape, width, **sizes, answer_only=True) + flops.head(shape)
    budget = alone * len(LENGTHS)
    scorer = Scorer(loaded, max_tokens=256, batch_size=4)

    found = counted(lambda: scorer.score(prompts()))
    with torch.no_grad():
        everywhere = counted(lambda: loaded.model(input_ids=padded_ids(prompts())))

    assert budget / BUDGET <= found <= budget * BUDGET
    assert everywhere > budget * BUDGET
    all_rows = flops.head(shape, rows=shape.vocabulary, positions=width)
    assert everywhere == pytest.approx((one + all_rows) * len(LENGTHS), rel=0.03)


def test_building_the_cache_costs_what_is_below_the_trained_layers(loaded, shape):
    cell = cell_of(loaded, "top-2", cached=True)

    found = counted(lambda: cell._prompts([Labelled(ids, 0) for ids in prompts()]))

    one = flops.building(shape, recipe(2), padded_width(LENGTHS), causal=False)
    assert found == pytest.approx(one.total * len(LENGTHS), rel=0.03)


def test_training_every_weight_costs_about_three_forward_passes(shape):
    full = flops.step(shape, recipe(4, method="full"), 96)
    adapters = flops.step(shape, recipe(4), 96)

    assert full.backward / full.forward == pytest.approx(2, rel=0.1)
    assert adapters.backward < full.backward


FAMILIES = ("llama", "gpt2", "biogpt")


def built(family):
    """Return a tiny random model of a family, built by transformers from its own configuration."""
    import transformers as t

    small = {"vocab_size": 300}
    if family == "gpt2":
        config = t.GPT2Config(**small, n_embd=32, n_layer=3, n_head=4, n_positions=128)
        return t.GPT2LMHeadModel(config)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 80, "max_position_embeddings": 128}
    if family == "biogpt":
        return t.BioGptForCausalLM(t.BioGptConfig(**small, **sizes))
    config = t.LlamaConfig(**small, **sizes, num_key_value_heads=2, tie_word_embeddings=False)
    return t.LlamaForCausalLM(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_a_forward_pass_of_every_family_are_counted(family):
    import torch

    model = built(family).eval()
    found = shape_of(model.config.to_dict())
    matrices = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    ids = torch.ones(2, 40, dtype=torch.long)

    with torch.no_grad():
        spent = counted(lambda: model(input_ids=ids))

    assert found.parameters == pytest.approx(matrices, rel=0.01)
    one = flops.forward(found, 40, layers=3, adapted=0, r=0, causal=False)
    one += flops.head(found, rows=300, positions=40)
    assert spent == pytest.approx(2 * one, rel=0.03)


def test_the_models_of_the_issue_have_their_published_sizes(tmp_path):
    seven = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
    write_json(tmp_path / "config.json", seven)

    assert read_shape(str(tmp_path), None).parameters == pytest.approx(6.74e9, rel=0.01)
    assert read_shape("smollm2-135m", None).parameters == pytest.approx(134.5e6, rel=0.01)
    large = {
        "model_type": "biogpt",
        "hidden_size": 1600,
        "intermediate_size": 6400,
        "num_hidden_layers": 48,
        "vocab_size": 57717,
        "max_position_embeddings": 2048,
    }
    assert shape_of(large).parameters == pytest.approx(1.57e9, rel=0.01)


def test_a_configuration_that_does_not_tell_the_size_is_refused(tiny_llama):
    config = read_json(tiny_llama / "config.json")
    assert shape_of(config).layers == 4
    del config["intermediate_size"]

    with pytest.raises(DataError, match="does not tell its size"):
        shape_of(config)
