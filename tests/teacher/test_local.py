from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from medslm.data.records import Passage
from medslm.errors import Diverged
from medslm.models import Loaded, load_causal_lm
from medslm.teacher.generation import Generator, Job, Text, _Row, draw, shared_prefix
from medslm.teacher.local import Local
from medslm.teacher.prompts import load_prompt
from medslm.teacher.requests import Request
from tests.factories import question
from tests.teacher.test_requests import requests
from tests.tiny import make_tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load_causal_lm(str(folder), revision=None, dtype="float32")


def asked(**overrides: Any) -> list[Request]:
    studies = [
        question(str(n), sections=(Passage("RESULTS", "It was so. " * n),)) for n in (1, 4, 2, 7)
    ]
    known = {
        "prompt": load_prompt("new", "completion", "v1"),
        "strategy": "new",
        "temperature": 1.0,
        "max_tokens": 12,
    }
    return requests(studies, **{**known, **overrides})


def contents(folder: Path, batch_size: int, wanted: list[Request]) -> dict[str, tuple[Any, ...]]:
    teacher = Local(str(folder), revision=None, dtype="float32", batch_size=batch_size)
    return {
        r.key: (r.content, r.finish_reason, str(r.usage), r.served_model)
        for r in teacher.answer(wanted)
    }


def test_neither_batch_size_nor_company_changes_a_reply(folder):
    wanted = asked()

    one = contents(folder, 1, wanted)

    assert one == contents(folder, 4, wanted) == contents(folder, 16, wanted[::-1])
    assert contents(folder, 4, wanted[3:5]) == {r.key: one[r.key] for r in wanted[3:5]}
    assert len({content for content, *_ in one.values()}) == len(wanted) == 8


def test_another_seed_or_temperature_gives_other_replies(folder):
    texts = [
        [content for content, *_ in contents(folder, 4, asked(**change)).values()]
        for change in ({}, {"seed": 1}, {"temperature": 2.0})
    ]

    assert texts[0] != texts[1]
    assert texts[0] != texts[2]


def test_without_temperature_the_seed_changes_nothing(folder):
    cold = [list(contents(folder, 4, asked(temperature=0, seed=s)).values()) for s in (0, 1)]

    assert sorted(cold[0]) == sorted(cold[1])


def test_a_prompt_that_does_not_fit_fails_by_name(folder):
    (reply,) = Local(str(folder), revision=None, dtype="float32", batch_size=4).answer(
        asked(max_tokens=2000)[:1]
    )

    assert (reply.content, reply.finish_reason) == (None, "prompt_too_long")


def test_the_identity_follows_the_weights_and_not_the_batch(folder, tmp_path):
    other = make_tiny_llama(tmp_path, seed=1)

    def identity(model: Path, batch_size: int, dtype: Any = "float32") -> dict[str, object]:
        return Local(str(model), revision=None, dtype=dtype, batch_size=batch_size).identity()

    assert identity(folder, 1) == identity(folder, 8)
    assert identity(folder, 1) != identity(other, 1)
    assert identity(folder, 1) != identity(folder, 1, "bfloat16")


def job(tokens: tuple[int, ...], **overrides: Any) -> Job:
    known: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 10,
        "seed": 0,
        "stop": (),
    }
    return Job(tokens, **{**known, **overrides})


def plain_greedy(loaded: Loaded, tokens: tuple[int, ...], count: int) -> list[int]:
    """Recompute everything at every step: no cache, no batch, no padding."""
    import torch

    so_far = list(tokens)
    with torch.inference_mode():
        for _ in range(count):
            so_far.append(int(loaded.model(torch.tensor([so_far])).logits[0, -1].argmax()))
            if so_far[-1] == 0:
                break
    return so_far[len(tokens) :]


def test_shared_prefix_padding_and_cache_give_what_the_plain_way_gives(loaded):
    rng = random.Random(5)
    prefix = tuple(rng.randrange(1, 250) for _ in range(9))
    jobs = [job(prefix + tuple(rng.randrange(1, 250) for _ in range(n))) for n in (1, 6, 3, 3)]
    jobs.append(jobs[1])

    texts = Generator(loaded.model, loaded.tokenizer, prefix).run(jobs)

    for one, text in zip(jobs, texts, strict=True):
        plain = plain_greedy(loaded, one.tokens, 10)
        ended = plain[-1] == 0
        decoded = loaded.tokenizer.decode(plain, skip_special_tokens=True)
        assert text == Text(decoded, "stop" if ended else "length", len(plain))
    assert len({text.text for text in texts}) >= 3  # control: they do differ


def test_a_stop_string_ends_a_reply_and_is_cut_off(loaded):
    tokens = (7, 8, 9)
    (free,) = Generator(loaded.model, loaded.tokenizer, ()).run([job(tokens)])
    stop = next(char for char in free.text if char.isascii())

    (cut,) = Generator(loaded.model, loaded.tokenizer, ()).run([job(tokens, stop=(stop,))])

    assert cut.finish_reason == "stop"
    assert cut.text == free.text[: free.text.index(stop)]


def test_the_shared_prefix_leaves_every_prompt_a_token():
    assert shared_prefix([(1, 2, 3), (1, 2, 4, 5)]) == (1, 2)
    assert shared_prefix([(1, 2, 3), (1, 2, 3)]) == (1, 2)
    assert shared_prefix([(1,), (1, 2)]) == ()
    assert shared_prefix([]) == ()


def drawn(probabilities: list[float], **overrides: Any) -> list[int]:
    import torch

    rows = [
        _Row(job((1,), **{"temperature": 1.0, "seed": n, **overrides}), 0, random.Random(n))
        for n in range(3000)
    ]
    logits = torch.tensor([probabilities]).log().clamp(min=-1e4).expand(len(rows), -1)
    return draw(logits, rows)


def shares(tokens: list[int], size: int) -> list[float]:
    return [tokens.count(n) / len(tokens) for n in range(size)]


def test_tokens_come_in_their_probabilities():
    assert shares(drawn([0.1, 0.6, 0.3]), 3) == pytest.approx([0.1, 0.6, 0.3], abs=0.03)


def test_temperature_sharpens():
    # Squaring .1 .6 .3 and normalising: temperature one half.
    assert shares(drawn([0.1, 0.6, 0.3], temperature=0.5), 3) == pytest.approx(
        [0.022, 0.783, 0.196], abs=0.03
    )
    assert set(drawn([0.1, 0.6, 0.3], temperature=0.0)) == {1}


def test_the_nucleus_is_the_shortest_run_of_likeliest_tokens_that_reaches_top_p():
    assert shares(drawn([0.1, 0.6, 0.3], top_p=0.85), 3) == pytest.approx(
        [0, 2 / 3, 1 / 3], abs=0.03
    )
    assert set(drawn([0.1, 0.6, 0.3], top_p=0.6)) == {1}


def test_a_nucleus_wider_than_the_likeliest_tokens_is_still_drawn_whole():
    flat = drawn([1 / 1000] * 1000, top_p=0.9)

    assert len(set(flat)) > 800
    assert max(flat) < 900


def test_scores_that_are_not_finite_stop_the_run():
    with pytest.raises(Diverged, match="float32"):
        drawn([float("nan"), 0.5])
