"""Every architecture path gives the answers of its own full forward pass, padded and unpadded."""

from __future__ import annotations

import copy

import pytest

from medslm.errors import DataError
from medslm.models import load_causal_lm
from medslm.student.padding import padded_ids
from medslm.student.prompting import encode, label_tokens, leading_ids
from medslm.student.scoring import AnswerHead
from tests.student.architectures import ARCHITECTURES, make_tiny

TEXTS = [
    ("Stay was 4.1 days. " * 9, "Does treatment shorten the stay?"),
    ("Of 120 adults 60 went home.", "Was it so?"),
    ("", "Yes?"),
]


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def loaded(request, tmp_path_factory):
    folder = make_tiny(tmp_path_factory.mktemp(request.param), request.param)
    return load_causal_lm(str(folder), revision=None, dtype="float32")


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma", "gpt2", "biogpt", "phi"])
def splitting(request, tmp_path_factory):
    """A model whose tokenizer splits " maybe" into three tokens."""
    folder = make_tiny(tmp_path_factory.mktemp(request.param), request.param, split=True)
    return load_causal_lm(str(folder), revision=None, dtype="float32")


def prompts(loaded):
    return [encode(loaded.tokenizer, c, q, max_tokens=400).ids for c, q in TEXTS]


def alone(loaded, ids, tokens):
    """The log-probability of ``tokens`` after ``ids``: a pass of their own with the model's own logits."""
    import torch

    whole = torch.tensor([[*ids, *tokens]])
    logs = torch.log_softmax(loaded.model(input_ids=whole).logits[0].float(), -1)
    return sum(logs[len(ids) - 1 + i, token] for i, token in enumerate(tokens))


def test_padded_prompts_without_a_mask_get_the_logits_of_the_whole_model(loaded):
    import torch

    ids = prompts(loaded)
    labels = [tokens[0] for tokens in label_tokens(loaded.tokenizer).values()]
    with torch.no_grad():
        found = AnswerHead(loaded).logits(ids)
        expected = [
            loaded.model(input_ids=torch.tensor([p])).logits[0, -1, labels].tolist() for p in ids
        ]
        # control: the position after the answer's is another one
        shifted = AnswerHead(loaded).logits([p[:-1] for p in ids])

    assert torch.allclose(found, torch.tensor(expected), atol=2e-5)
    assert not torch.allclose(shifted, torch.tensor(expected), atol=1e-2)


def test_training_mode_gives_the_same_logits_since_the_base_drops_nothing(loaded):
    import torch

    ids = prompts(loaded)
    with torch.no_grad():
        still = AnswerHead(loaded).logits(ids)
        loaded.model.train()
        trained = AnswerHead(loaded).logits(ids)
        loaded.model.eval()

    assert torch.equal(still, trained)


def test_a_base_with_its_own_dropout_would_not(tmp_path):
    """Control for the test above: BioGPT as its makers set it up answers by chance while it trains."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = make_tiny(tmp_path / "biogpt", "biogpt")
    raw = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[5, 6, 7, 8]])

    assert raw.config.attention_probs_dropout_prob > 0
    with torch.no_grad():
        assert torch.equal(raw.eval()(ids).logits, raw(ids).logits)
        assert not torch.equal(raw.train()(ids).logits, raw(ids).logits)


def test_answers_of_several_tokens_from_one_pass_equal_a_pass_per_answer(splitting):
    import torch

    labels = list(label_tokens(splitting.tokenizer).values())
    assert [len(tokens) for tokens in labels] == [1, 1, 3]
    ids = prompts(splitting)
    with torch.no_grad():
        found = AnswerHead(splitting).logits(ids)
        expected = torch.tensor([[alone(splitting, p, t) for t in labels] for p in ids])
        only_first = torch.tensor([[alone(splitting, p, t[:1]) for t in labels] for p in ids])

    assert torch.allclose(found, expected, atol=5e-5)
    assert not torch.allclose(only_first, expected, atol=1e-2)


def test_the_gradient_through_several_tokens_is_that_of_a_pass_per_answer(splitting):
    import torch

    labels = list(label_tokens(splitting.tokenizer).values())
    ids = prompts(splitting)
    gold = torch.tensor([2, 0, 2])
    name, weight = next((n, p) for n, p in splitting.model.named_parameters() if ".1." in n)
    weight.requires_grad_(True)
    try:
        ours = torch.nn.functional.cross_entropy(AnswerHead(splitting).logits(ids), gold)
        rows = [torch.stack([alone(splitting, p, t) for t in labels]) for p in ids]
        theirs = torch.nn.functional.cross_entropy(torch.stack(rows), gold)
        other = torch.nn.functional.cross_entropy(torch.stack(rows), (gold + 1) % 3)
        [one], [two], [three] = (
            torch.autograd.grad(x, weight, retain_graph=True) for x in (ours, theirs, other)
        )
    finally:
        weight.requires_grad_(False)

    assert float(two.abs().max()) > 1e-6, name
    assert torch.allclose(one, two, atol=1e-4, rtol=1e-3), name
    assert not torch.allclose(three, two, atol=1e-4, rtol=1e-3)


def test_one_token_answers_get_the_same_probabilities_from_both_ways(loaded):
    import torch

    from medslm.student.labels import log_likelihoods

    head, ids = AnswerHead(loaded), prompts(loaded)
    with torch.no_grad():
        fast = torch.softmax(head.logits(ids), -1)
        slow = log_likelihoods(
            loaded.model, head.tree, padded_ids(ids), [len(p) for p in ids], None
        )

    assert head.one_token
    assert torch.allclose(fast, slow.softmax(-1), atol=1e-5)
    assert float(slow.max()) < 0  # control: these are log-probabilities, the fast way's are logits


def test_a_model_that_forgets_its_prompt_is_refused_for_answers_of_several_tokens(tmp_path):
    from medslm.errors import ParamsError

    folder = make_tiny(tmp_path / "gemma2", "gemma2", split=True)
    loaded = load_causal_lm(str(folder), revision=None, dtype="float32")

    with pytest.raises(ParamsError, match="sliding_attention"):
        AnswerHead(loaded)


def test_a_prompt_past_the_last_position_is_refused_and_padding_never_gets_there(tmp_path):
    import torch

    folder = make_tiny(tmp_path / "gpt2", "gpt2")
    loaded = load_causal_lm(str(folder), revision=None, dtype="float32")
    head = AnswerHead(loaded)
    head.room = 500  # as if the model had so many; the next multiple of 32 is 512

    assert padded_ids([[1] * 499], head.room).shape == (1, 500)
    with torch.no_grad():
        assert head.logits([[5] * 499]).shape == (1, 3)
    with pytest.raises(DataError, match=r"501 tokens .* room for 500"):
        head.logits([[5] * 501])


def test_tokens_that_a_tokenizer_puts_first_stand_before_the_prompt():
    from tokenizers.processors import TemplateProcessing

    from tests.tiny import tiny_tokenizer

    plain = tiny_tokenizer()
    first = copy.deepcopy(plain)
    first._tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A <eos>", special_tokens=[("<eos>", first.eos_token_id)]
    )
    usual = encode(plain, "A context. " * 10, "Is it?", max_tokens=400)
    led = encode(first, "A context. " * 10, "Is it?", max_tokens=400)
    cut = encode(first, "A context. " * 40, "Is it?", max_tokens=70)

    assert leading_ids(plain) == []
    assert leading_ids(first) == [first.eos_token_id]
    assert led.ids == [first.eos_token_id, *usual.ids]
    assert len(cut.ids) == 70
    assert cut.ids[:2] == led.ids[:2]
    assert label_tokens(first) == label_tokens(plain)
