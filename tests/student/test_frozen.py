from __future__ import annotations

import pytest

from medslm.student.frozen import FrozenLayers, frozen_below
from medslm.student.padding import padded_ids
from medslm.student.prefixes import groups
from tests.student.bodies import FAMILIES, tiny_loaded

ABSTRACTS = [list(range(10, 70)), list(range(100, 133)), list(range(200, 290))]
PROMPTS = [
    abstract + [300 + rest * 7 + i for i in range(4 + rest)]
    for abstract in ABSTRACTS
    for rest in range(3)
] + [list(range(40, 45)), list(range(10, 70))]


@pytest.fixture(params=FAMILIES)
def body(request):
    return tiny_loaded(request.param).model.base_model


def whole(body, prompts):
    import torch

    with torch.no_grad():
        return body(input_ids=padded_ids(prompts), use_cache=False).last_hidden_state


def test_lower_then_upper_layers_are_the_whole_body(body):
    import torch

    expected = whole(body, PROMPTS)
    frozen = FrozenLayers(body, 2)
    with torch.no_grad():
        found = frozen.finish(frozen.hidden(PROMPTS, 3))
        wrong = FrozenLayers(body, 1).finish(frozen.hidden(PROMPTS, 3))

    for row, prompt in enumerate(PROMPTS):
        answer = len(prompt) - 1
        assert torch.allclose(found[row, answer], expected[row, answer], atol=2e-5, rtol=1e-4)
        assert not torch.allclose(wrong[row, answer], expected[row, answer], atol=1e-2)
    assert torch.equal(whole(body, PROMPTS), expected)  # the body is left as it was


def test_what_prompts_share_is_computed_once_and_to_the_same_states(body):
    import torch

    frozen = FrozenLayers(body, 2)
    tokens = []
    handle = body.get_input_embeddings().register_forward_hook(
        lambda _module, given, _out: tokens.append(given[0].numel())
    )
    shared = frozen.hidden(PROMPTS, 4)
    together = sum(tokens)
    tokens.clear()
    alone = [frozen.hidden([prompt], 1)[0] for prompt in PROMPTS]
    handle.remove()

    for one, other in zip(shared, alone, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=2e-5, rtol=1e-4)
    assert together < 0.7 * sum(tokens)
    # control: the same last token behind another abstract has other states
    assert not torch.allclose(shared[0][-1], shared[3][-1], atol=1e-2)


def test_gradients_reach_the_upper_layers_alone(body):
    import torch

    frozen = FrozenLayers(body, 2)
    states = frozen.hidden(PROMPTS[:2], 2)
    body.requires_grad_(True)
    torch.autograd.backward(frozen.finish(states).square().sum())

    reached = {n for n, p in body.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".3." in name for name in reached)
    assert any(".2." in name for name in reached)
    assert not any(".1." in name or ".0." in name for name in reached)


def test_a_body_of_unknown_make_is_run_whole_and_one_line_says_so(caplog):
    caplog.set_level("INFO")
    body = tiny_loaded("gemma2").model.base_model

    assert frozen_below(body, [2, 3]) is None
    assert frozen_below(body, [2, 3]) is None
    assert caplog.text.count("gemma2: the layers cannot be taken apart") == 1
    assert frozen_below(tiny_loaded("gpt2").model.base_model, [2, 3]) is not None


def test_every_prompt_is_in_one_group_and_only_long_common_beginnings_count():
    found = groups(PROMPTS)

    assert sorted(m for g in found for m in g.members) == list(range(len(PROMPTS)))
    by_first = {g.members[0]: g for g in found}
    assert {(len(g.members), g.shared) for g in found} == {(4, 60), (3, 33), (3, 90), (1, 5)}
    # the bare abstract is the beginning of the prompts about it
    assert by_first[len(PROMPTS) - 1].shared == 60
    unlike = [[1, 2, 3, 4, 5, 6], [1, 2, 9, 9, 9, 9]]
    assert [len(g.members) for g in groups(unlike)] == [1, 1]
    assert [len(g.members) for g in groups([[1, 2, 3, 4], [1, 2, 9, 9]])] == [2]


def test_groups_do_not_depend_on_the_order_of_the_prompts():
    def contents(prompts):
        return {
            (frozenset(tuple(prompts[m]) for m in g.members), g.shared) for g in groups(prompts)
        }

    assert contents(PROMPTS) == contents(PROMPTS[::-1])
    assert contents(PROMPTS) != contents(PROMPTS[1:])
