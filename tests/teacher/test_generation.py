from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from medslm.errors import Diverged
from medslm.models import Loaded, load_causal_lm
from medslm.teacher.generation import Generator, Job, Text, _Row, draw, shared_prefix
from medslm.teacher.masks import Grammars


@pytest.fixture(scope="module")
def loaded(tiny_llama: Path) -> Loaded:
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def job(tokens: tuple[int, ...], **overrides: Any) -> Job:
    known: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 10,
        "seed": 0,
        "stop": (),
        "grammar": None,
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
        _Row(job((1,), **{"temperature": 1.0, "seed": n, **overrides}), 0, random.Random(n), None)
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


WORDS = 'start: ("yes" | "no" | "maybe") /[ \\n]*/'
LETTERS = "start: /[a-z ]{30}/"


def test_a_grammar_is_kept_and_its_end_ends_the_reply(loaded):
    prompts = [tuple(range(n, n + 5)) for n in range(1, 40)]
    generator = Generator(loaded.model, loaded.tokenizer, ())

    held = generator.run([job(p, grammar=WORDS, temperature=1.0) for p in prompts])
    free = generator.run([job(p, temperature=1.0) for p in prompts])

    assert {text.text for text in held} == {"yes", "no", "maybe"}
    assert {text.finish_reason for text in held} == {"stop"}
    assert not {text.text for text in free} & {"yes", "no", "maybe"}  # control


def test_a_grammar_that_the_tokens_do_not_reach_the_end_of_gives_a_cut_reply(loaded):
    (cut,) = Generator(loaded.model, loaded.tokenizer, ()).run(
        [job((7, 8), grammar=LETTERS, max_tokens=3)]
    )
    (whole,) = Generator(loaded.model, loaded.tokenizer, ()).run(
        [job((7, 8), grammar=LETTERS, max_tokens=30)]
    )

    assert (cut.finish_reason, cut.tokens) == ("length", 3)
    assert whole.finish_reason == "stop"
    assert whole.text.startswith(cut.text)


def test_a_stop_string_cuts_a_reply_that_follows_a_grammar(loaded):
    (text,) = Generator(loaded.model, loaded.tokenizer, ()).run(
        [job((7, 8), grammar=r'start: /[a-z]{3}/ "\n" /[a-z]{3}/', stop=("\n",))]
    )

    assert (len(text.text), text.finish_reason) == (3, "stop")


def test_held_tokens_are_the_likeliest_that_the_grammar_allows(loaded):
    import torch

    tokens = (11, 12, 13)
    (text,) = Generator(loaded.model, loaded.tokenizer, ()).run(
        [job(tokens, grammar=LETTERS, max_tokens=8)]
    )

    trail = Grammars(loaded.tokenizer, len(loaded.tokenizer), [0]).open(LETTERS)
    plain = list(tokens)
    with torch.inference_mode():
        for _ in range(8):
            scores = loaded.model(torch.tensor([plain])).logits[0, -1]
            allowed = [at for at, is_allowed in enumerate(trail.allowed) if is_allowed]
            plain.append(max(allowed, key=lambda token: float(scores[token])))
            trail.take(plain[-1])
    assert text.text == loaded.tokenizer.decode(plain[3:])
    assert text.tokens == 8


def test_rows_with_and_without_a_grammar_do_not_change_each_other(loaded):
    jobs = [
        job((n, n + 1, 5), temperature=1.0, seed=n, grammar=grammar)
        for n, grammar in enumerate([None, LETTERS, WORDS, None, LETTERS], start=1)
    ]
    generator = Generator(loaded.model, loaded.tokenizer, ())

    together = generator.run(jobs)

    assert together == [generator.run([one])[0] for one in jobs]
    assert together[1].text != together[4].text  # control: the seeds do count
