from __future__ import annotations

import numpy as np
import pytest

from medslm.errors import ParamsError
from medslm.teacher.masks import Grammars, cut
from tests.tiny import tiny_tokenizer

YES_OR_NO = r'start: ("yes" | "no") /[ \n]*/'


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def grammars(tokenizer):
    return Grammars(tokenizer, len(tokenizer) + 3, [tokenizer.eos_token_id])


def texts(tokenizer, trail):
    return {tokenizer.decode([int(token)]) for token in np.flatnonzero(trail.allowed)}


def walk(tokenizer, trail, text):
    for token in tokenizer(text)["input_ids"]:
        trail.take(token)
    return trail


def test_a_trail_allows_what_goes_on_within_the_grammar_and_nothing_else(tokenizer, grammars):
    trail = grammars.open(YES_OR_NO)

    assert texts(tokenizer, trail) <= {"y", "ye", "yes", "n", "no"}
    assert {"y", "n"} <= texts(tokenizer, trail)
    assert texts(tokenizer, walk(tokenizer, trail, "n")) == {"o"}


def test_the_end_token_is_allowed_only_where_the_reply_is_whole(tokenizer, grammars):
    trail = grammars.open(YES_OR_NO)
    end = tokenizer.eos_token_id

    allowed = [bool(trail.allowed[end])]
    for text in ("n", "o"):
        allowed.append(bool(walk(tokenizer, trail, text).allowed[end]))

    assert allowed == [False, False, True]


@pytest.mark.parametrize(
    ("grammar", "done"),
    [(YES_OR_NO, True), (r'start: "no" /[a-z]*/', False), (r'start: "no" /\n\n/', False)],
    ids=["blanks", "letters", "not-whole"],
)
def test_a_reply_is_done_when_it_is_whole_and_only_blanks_can_follow(
    tokenizer, grammars, grammar, done
):
    trail = grammars.open(grammar)

    assert not trail.done
    assert walk(tokenizer, trail, "no").done is done


def test_a_trail_takes_the_end_token_and_refuses_what_it_does_not_allow(tokenizer, grammars):
    whole = walk(tokenizer, grammars.open(YES_OR_NO), "no")
    whole.take(tokenizer.eos_token_id)

    assert whole.done
    with pytest.raises(ValueError, match="does not fit"):
        walk(tokenizer, grammars.open(YES_OR_NO), "yo")


def test_trails_of_one_grammar_are_apart(tokenizer, grammars):
    first, second = grammars.open(YES_OR_NO), grammars.open(YES_OR_NO)

    walk(tokenizer, first, "n")

    assert texts(tokenizer, first) != texts(tokenizer, second)


def test_what_is_no_grammar_is_an_error(grammars):
    with pytest.raises(ValueError, match="cannot be read"):
        grammars.open("start: (")


def test_a_tokenizer_without_a_table_of_tokens_is_refused_with_what_to_do():
    from transformers import ByT5Tokenizer

    with pytest.raises(ParamsError, match="constrained: false"):
        Grammars(ByT5Tokenizer(), 400, [1])


def test_scores_are_cut_where_a_trail_says_no_and_nowhere_else(tokenizer, grammars):
    import torch

    trail = grammars.open(YES_OR_NO)
    scores = torch.arange(2.0 * len(trail.allowed)).view(2, -1)
    held = scores.clone()

    cut(held, [trail, None])

    assert torch.equal(held[1], scores[1])
    assert (held[0].isfinite().numpy() == trail.allowed).all()
    assert torch.equal(held[0][trail.allowed], scores[0][trail.allowed])
    assert not trail.allowed[len(tokenizer) :].any()  # rows of the embedding without a token
