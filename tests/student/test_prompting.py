from __future__ import annotations

import pytest

from medslm.errors import DataError
from medslm.student.prompting import encode, label_ids, prompt


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_llama)


def test_questions_about_one_abstract_share_their_beginning():
    one, two = prompt("The abstract.", "Is it?"), prompt("The abstract.", "Was it?")

    assert one == "Abstract: The abstract.\nQuestion: Is it?\nAnswer (yes, no or maybe):"
    assert one.index("Question") == two.index("Question")


def test_a_context_with_braces_is_left_alone():
    assert "{question}" in prompt("A {question} here", "Is it?")


def test_each_answer_is_one_token(tokenizer):
    labels = label_ids(tokenizer)

    assert [tokenizer.decode([i]) for i in labels.values()] == [" yes", " no", " maybe"]


def test_a_tokenizer_that_splits_an_answer_is_refused():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    bare = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()

    with pytest.raises(DataError, match="several tokens"):
        label_ids(PreTrainedTokenizerFast(tokenizer_object=bare))


def test_b20_what_does_not_fit_is_cut_from_the_beginning_of_the_abstract(tokenizer):
    context = "Background words first. " * 30 + "The finding."
    whole = encode(tokenizer, context, "Is it?", max_tokens=2000)

    cut = encode(tokenizer, context, "Is it?", max_tokens=80)

    text = tokenizer.decode(cut.ids)
    assert len(cut.ids) == 80
    assert cut.cut == len(whole.ids) - 80
    assert whole.cut == 0
    assert text.startswith("Abstract:")
    assert text.endswith("The finding.\nQuestion: Is it?\nAnswer (yes, no or maybe):")


def test_a_question_that_does_not_fit_is_refused(tokenizer):
    with pytest.raises(DataError, match="raise it"):
        encode(tokenizer, "A context. " * 50, "Is it this? " * 20, max_tokens=64)
