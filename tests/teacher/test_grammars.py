from __future__ import annotations

import json
import random
from importlib import resources
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Pair, Unreadable
from medslm.quality.parse import parse
from medslm.quality.text import is_safe
from medslm.teacher.grammars import grammar_for
from medslm.teacher.masks import Grammars, Trail
from medslm.teacher.prompts import Strategy, Style
from tests.factories import exchange, question
from tests.tiny import tiny_tokenizer

TOKENIZER: Any = tiny_tokenizer()
END = TOKENIZER.eos_token_id
GRAMMARS = Grammars(TOKENIZER, len(TOKENIZER), [END])

PAIRS = [(strategy, style) for strategy in get_args(Strategy) for style in get_args(Style)]


def fits(strategy: str, style: Any, text: str) -> bool:
    """Tell whether a reply keeps to its grammar and is whole."""
    trail = GRAMMARS.open(grammar_for(strategy, style))
    for token in TOKENIZER(text)["input_ids"]:
        if not trail.allowed[token]:
            return False
        trail.take(token)
    return bool(trail.allowed[END])


@pytest.mark.parametrize(("strategy", "style"), PAIRS)
def test_every_strategy_has_a_grammar_in_both_styles(strategy, style):
    trail = GRAMMARS.open(grammar_for(strategy, style))

    assert trail.allowed.any()
    assert not trail.allowed.all()
    assert not trail.allowed[END]


def worked_examples() -> list[Any]:
    """Return the replies that the completion prompts show as examples, by strategy."""
    found = []
    prompts = resources.files("medslm.teacher") / "prompts"
    for strategy in get_args(Strategy):
        for file in sorted((prompts / strategy).iterdir(), key=lambda f: f.name):
            if file.name.startswith("completion"):
                *blocks, last = file.read_text(encoding="utf-8").strip().split("\n\n")
                label = "\n" + last.rpartition("\n")[2]
                shown = [block.partition(label)[2] for block in blocks if label in block]
                found += [
                    pytest.param(strategy, reply, id=f"{strategy}-{file.name}-{n}")
                    for n, reply in enumerate(shown)
                ]
    return found


@pytest.mark.parametrize(("strategy", "reply"), worked_examples())
def test_a_prompts_own_examples_fit_its_grammar(strategy, reply):
    assert reply
    assert fits(strategy, "completion", reply)
    assert fits(strategy, "completion", reply + "\n\n")
    assert not fits(strategy, "completion", reply[::-1])


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        (" Does it shorten the stay?", True),
        ("Does it shorten the stay?", True),
        (" Nurses: is it safe for them?", True),
        (" Is β-blockade at ≥ 5 μg safe?", True),
        (" Does it shorten the stay", False),
        (" Does it? Really?", False),
        (" Does it\nshorten the stay?", False),
        (" Reason: does it?", False),
        (" LONG ANSWER : does it?", False),
        (' "Does it?', False),
        (" ?", False),
        ("", False),
        (" Does \u200bit?", False),
        (" Does\u3164it?", False),
        (" Doe\u0301s it?", False),
    ],
    ids=[
        *("plain", "no-blank", "colon", "signs", "no-mark", "two", "two-lines", "field"),
        *("field-loud", "quote", "bare-mark", "empty", "hidden", "filler", "mark"),
    ],
)
def test_a_rewrite_is_one_line_that_asks(text, fitting):
    assert fits("rewrite", "completion", text) is fitting


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        (" Does it?\nAnswer: maybe\nReason: It might.", True),
        (" Does it?\nAnswer: perhaps\nReason: It might.", False),
        (" Does it?\nAnswer: Maybe\nReason: It might.", False),
        (" Does it?\nReason: It might.\nAnswer: maybe", False),
        (" Does it?\nAnswer: maybe", False),
        (" Does it?\nAnswer: maybe\nReason: **", False),
        (" Does it?\nAnswer: maybe\nReason: It might.\nStudy: Of 12", False),
    ],
    ids=["whole", "other-word", "capital", "order", "no-reason", "empty", "next-study"],
)
def test_a_new_question_is_three_lines(text, fitting):
    assert fits("new", "completion", text) is fitting


@pytest.mark.parametrize(
    ("strategy", "reply", "fitting"),
    [
        ("new", {"question": "Does it?", "answer": "no", "long_answer": "(n = 3) No."}, True),
        ("new", {"question": "Does it", "answer": "no", "long_answer": "No."}, False),
        ("new", {"question": "Does it?", "answer": "never", "long_answer": "No."}, False),
        ("new", {"question": "Does it?", "answer": "no", "long_answer": ""}, False),
        ("new", {"question": "Does it?", "answer": "no", "long_answer": " "}, False),
        ("new", {"question": "Does it?", "answer": "no"}, False),
        ("new", {"question": "Does\n it?", "answer": "no", "long_answer": "No."}, False),
        ("answer", {"answer": "yes"}, True),
        ("answer", {"answer": "yes", "more": "1"}, False),
    ],
    ids=str,
)
def test_a_chat_reply_is_what_the_schema_says_with_something_in_it(strategy, reply, fitting):
    assert fits(strategy, "chat", json.dumps(reply)) is fitting
    assert fits(strategy, "chat", json.dumps(reply, indent=1)) is False  # one blank at most


def wander(trail: Trail, seed: int) -> str:
    """Go any way that the grammar allows, now and then towards an end; the text once it is whole."""
    rng = random.Random(seed)
    enders = np.array([text in {"?", "\n", '"', "}", ":"} for text in TEXTS])
    tokens: list[int] = []
    while not trail.done:
        allowed = trail.allowed & ~ENDS if tokens else trail.allowed
        closing = np.flatnonzero(allowed & enders)
        ways = closing if len(closing) and rng.random() < 0.2 else np.flatnonzero(allowed)
        if trail.allowed[END] and rng.random() < 0.2:
            break
        tokens.append(int(rng.choice(ways)))
        trail.take(tokens[-1])
    return str(TOKENIZER.decode(tokens))


TEXTS = [TOKENIZER.decode([token]) for token in range(len(TOKENIZER))]
ENDS = np.array([token == END for token in range(len(TOKENIZER))])


# Whether an edit's words are in the abstract once is not for a grammar to say.
READABLE = {"edit_not_found", "edit_not_unique", "edits_overlap"}


@given(st.sampled_from([p for p in PAIRS if p[0] != "answer"]), st.integers(0, 2**31))
def test_whatever_fits_can_be_read(pair, seed):
    strategy, style = pair

    text = wander(GRAMMARS.open(grammar_for(strategy, style)), seed)

    assert is_safe(text)
    reply = exchange(strategy=strategy, prompt=f"{strategy}/{style}-v1", content=text)
    read = parse(reply, question(), "a")
    if strategy == "counterfactual":
        assert isinstance(read, Unreadable)
        assert read.reason in READABLE
    else:
        assert isinstance(read, Pair), (text, read)


def test_without_a_grammar_random_tokens_cannot_be_read():
    rng = random.Random(0)
    texts = [TOKENIZER.decode(rng.choices(range(1, len(TOKENIZER)), k=30)) for _ in range(50)]

    replies = [exchange(strategy="new", prompt="new/completion-v1", content=t) for t in texts]

    assert not any(isinstance(parse(reply, question(), "a"), Pair) for reply in replies)
