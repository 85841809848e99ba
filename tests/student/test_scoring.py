from __future__ import annotations

import math

import pytest

from medslm.errors import Diverged
from medslm.models import load_causal_lm
from medslm.student.prompting import label_ids, prompt
from medslm.student.scoring import Scorer, best_answer

ITEMS = [
    ("Stay was 4.1 days with treatment and 6.0 without.", "Does treatment shorten the stay?"),
    ("The treatment. " * 30, "Is it better?"),
    ("Short.", "Does it?"),
    ("Of 120 adults 60 went home. " * 9, "Was the answer no?"),
    ("Days.", "Is the hospital stay of adults a maybe?"),
]


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def test_one_pass_with_padding_equals_each_prompt_alone_with_all_logits(loaded):
    import torch

    scorer = Scorer(loaded, max_tokens=512, batch_size=3)
    labels = list(label_ids(loaded.tokenizer).values())

    found = scorer.probabilities(ITEMS)

    for (context, question), row in zip(ITEMS, found, strict=True):
        ids = loaded.tokenizer(prompt(context, question), return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = loaded.model(input_ids=ids).logits[0, -1, labels]
        expected = torch.softmax(logits, -1).tolist()
        assert list(row.values()) == pytest.approx(expected, abs=2e-6)
    assert len({round(row["yes"], 4) for row in found}) == len(ITEMS)  # control: they do differ


def test_batch_size_and_order_change_no_answer(loaded):
    one = Scorer(loaded, max_tokens=512, batch_size=1).probabilities(ITEMS)
    four = Scorer(loaded, max_tokens=512, batch_size=4).probabilities(ITEMS)
    backwards = Scorer(loaded, max_tokens=512, batch_size=4).probabilities(ITEMS[::-1])[::-1]

    for a, b, c in zip(one, four, backwards, strict=True):
        assert list(a.values()) == pytest.approx(list(b.values()), abs=2e-6)
        assert list(b.values()) == pytest.approx(list(c.values()), abs=2e-6)


def test_probabilities_sum_to_one_and_a_tie_goes_to_the_first(loaded):
    for row in Scorer(loaded, max_tokens=512, batch_size=2).probabilities(ITEMS):
        assert sum(row.values()) == pytest.approx(1, abs=2e-6)

    assert best_answer({"yes": 0.25, "no": 0.375, "maybe": 0.375}) == "no"
    assert best_answer({"yes": 0.2, "no": 0.2, "maybe": 0.6}) == "maybe"


def test_a_damaged_model_is_noticed(tiny_llama):
    import torch

    broken = load_causal_lm(str(tiny_llama), revision=None, dtype="float32")
    with torch.no_grad():
        broken.model.model.norm.weight.fill_(math.nan)

    with pytest.raises(Diverged, match="not finite"):
        Scorer(broken, max_tokens=512, batch_size=2).probabilities(ITEMS[:1])


def test_long_abstracts_are_cut_aloud(loaded, caplog):
    Scorer(loaded, max_tokens=100, batch_size=2).probabilities([ITEMS[1], ITEMS[2]])

    assert "1 of 2 abstracts are longer than student.max_tokens=100" in caplog.text
