"""Prompts that share their beginning give the answers they give alone."""

from __future__ import annotations

import pytest
import torch

from medslm.data.records import ANSWERS
from medslm.errors import DataError
from medslm.models import load_causal_lm
from medslm.student.prompting import prompt
from medslm.student.scoring import Scorer
from medslm.student.shared_scoring import SharedScorer

ABSTRACT = "Stay was 4.1 days with treatment and 6.0 days without. " * 3
OTHER = "We compared treatment with usual care in 120 adults. " * 4
ORDER = ("no", "maybe", "yes")
ITEMS = [
    (ABSTRACT, "Is the stay shorter?", ANSWERS),
    (OTHER, "Does treatment help adults?", ANSWERS),
    (ABSTRACT, "Is the stay shorter?", ORDER),
    (ABSTRACT, "Does usual care take 6.0 days?", ANSWERS),
    (ABSTRACT, "Is the stay shorter?", ANSWERS),
]


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def near(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=2e-5)


def test_shared_beginnings_change_no_answer(loaded):
    shared = SharedScorer(loaded, max_tokens=512, batch_size=2)
    alone = Scorer(loaded, max_tokens=512, batch_size=2)

    found = shared.asked(ITEMS)

    near(found, alone.score(shared.encoded(ITEMS)))
    near(
        [found[0], found[1], found[3]],
        alone.probabilities([i[:2] for i in (ITEMS[0], ITEMS[1], ITEMS[3])]),
    )
    assert found[0] == found[4]
    assert found[0] != found[2]
    near(found, shared.asked(ITEMS[::-1])[::-1])


def test_without_known_layers_every_prompt_runs_alone_to_the_same_states(loaded):
    shared = SharedScorer(loaded, max_tokens=512, batch_size=2)
    plain = SharedScorer(loaded, max_tokens=512, batch_size=2)
    plain.layers = None

    near(plain.asked(ITEMS), shared.asked(ITEMS))
    prompts = shared.encoded(ITEMS)
    assert torch.allclose(plain.states(prompts), shared.states(prompts), atol=1e-4)
    assert shared.states(prompts).shape == (len(ITEMS), 32)


def test_only_the_order_of_the_answers_differs_between_votes():
    usual, other = prompt("A.", "Is it?"), prompt("A.", "Is it?", ORDER)

    assert usual.endswith("Answer (yes, no or maybe):")
    assert other == usual.replace("(yes, no or maybe)", "(no, maybe or yes)")
    assert "{options}" in prompt("A.", "Is {options} it?")


def test_cut_prompts_are_counted_and_keep_their_question(loaded):
    scorer = SharedScorer(loaded, max_tokens=64, batch_size=2)
    items = [(ABSTRACT * 5, "Is the stay shorter?", ANSWERS), ("Short.", "Is it?", ANSWERS)]

    scorer.asked(items)

    assert scorer.cut == 1
    assert scorer.tokenizer.decode(scorer.encoded(items)[0]).endswith(
        "Is the stay shorter?\nAnswer (yes, no or maybe):"
    )


def test_a_prompt_that_does_not_fit_the_model_is_refused(loaded):
    scorer = SharedScorer(loaded, max_tokens=4000, batch_size=2)

    with pytest.raises(DataError, match="room for"):
        scorer.asked([(ABSTRACT * 60, "Is it?", ANSWERS)])


def test_no_prompts_give_no_answers(loaded):
    assert SharedScorer(loaded, max_tokens=64, batch_size=2).asked([]) == []


def test_weights_of_another_model_give_other_answers(loaded, tmp_path):
    from tests.tiny import make_tiny_llama

    other = load_causal_lm(
        str(make_tiny_llama(tmp_path / "m", seed=1)), revision=None, dtype="float32"
    )
    how = {"max_tokens": 512, "batch_size": 2}

    assert SharedScorer(loaded, **how).asked(ITEMS) != SharedScorer(other, **how).asked(ITEMS)
