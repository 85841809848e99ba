"""Wrong answers are doubted by probes that never saw their study, and only by probes worth believing."""

from __future__ import annotations

import numpy as np
import pytest

from medslm.data.records import ANSWERS
from medslm.quality.doubt import (
    Sample,
    doubts,
    fold_of,
    judge,
    measure,
    noise,
    out_of_fold,
    summarise,
    suspects,
    trusted,
)

KNOBS = {"folds": 5, "strength": 0.1}


def world(n=180, *, wrong=0.0, signal=3.0, seed=0):
    """Studies with a real question and a generated one each; states show the true answer.

    Returns samples, states, and the ids of the pairs whose claimed answer is wrong.
    """
    rng = np.random.default_rng(seed)
    samples, states, lies = [], [], set()
    for number in range(n):
        true = int(rng.choice(3, p=[0.5, 0.3, 0.2]))
        for pair_id in (None, f"a:{number}:0"):
            claimed = true
            if pair_id and rng.random() < wrong:
                claimed = (true + 1) % 3
                lies.add(pair_id)
            kind = "pair" if pair_id else "real"
            ask = "a" if pair_id else None
            samples.append(
                Sample(f"{kind}:{number:04}", str(number), ANSWERS[claimed], pair_id, ask)
            )
            states.append(rng.normal(size=12) + signal * np.eye(12)[true])
    order = sorted(range(len(samples)), key=lambda i: samples[i].id)
    return [samples[i] for i in order], np.array(states)[order], lies


def test_planted_wrong_answers_are_doubted_and_few_right_ones():
    samples, states, lies = world(wrong=0.15, signal=5.0)
    judged = judge(samples, states, **KNOBS)
    worth = measure(samples, judged)

    found = doubts(samples, judged, believed=trusted(worth))

    doubted = {d.pair_id for d in found if d.doubted}
    assert trusted(worth)
    assert len(lies) > 15
    assert len(doubted & lies) / len(lies) > 0.75
    assert len(doubted - lies) < 0.05 * (len(found) - len(lies))


def test_the_estimated_noise_is_the_planted_one_and_zero_without():
    samples, states, lies = world(wrong=0.15)
    judged = judge(samples, states, **KNOBS)
    clean, clear, _ = world()
    calm = judge(clean, clear, **KNOBS)

    counts = summarise(samples, judged, doubts(samples, judged, believed=True))
    none = summarise(clean, calm, doubts(clean, calm, believed=True))

    assert counts["noise_low"] <= len(lies) / counts["n"] <= counts["noise_high"]
    assert 0 <= counts["noise_low"] < counts["noise"] < counts["noise_high"] <= 1
    assert none["noise"] < 0.03
    assert counts["asks"]["a"]["doubted"] == counts["doubted"] > 10


def test_a_probe_that_learned_nothing_may_drop_nothing():
    samples, states, _ = world(wrong=0.3, signal=0.0)
    judged = judge(samples, states, **KNOBS)
    worth = measure(samples, judged)

    found = doubts(samples, judged, believed=trusted(worth))

    assert not trusted(worth)
    assert any(d.suspected for d in found)
    assert not any(d.doubted for d in found)


def test_no_probe_sees_the_study_it_judges():
    """States that only tell studies apart: whoever has seen a study knows its answer by heart."""
    rng = np.random.default_rng(0)
    samples, states = [], []
    for number in range(90):
        answer, own = ANSWERS[int(rng.integers(3))], rng.normal(size=200) * 5
        for copy in range(2):
            pair_id = f"a:{number}:{copy}" if copy else None
            samples.append(Sample(f"{copy}:{number:03}", str(number), answer, pair_id, "a"))
            states.append(own)
    order = sorted(range(len(samples)), key=lambda i: samples[i].id)
    samples, states = [samples[i] for i in order], np.array(states)[order]
    alone = [s._replace(pmid=s.id) for s in samples]

    knobs = {"folds": 5, "strength": 1.0}

    grouped = measure(samples, judge(samples, states, **knobs))["accuracy"]
    torn_apart = measure(alone, judge(alone, states, **knobs))["accuracy"]

    assert grouped < 0.5
    assert torn_apart > 0.7


def test_folds_hold_whole_studies_evenly_whatever_the_order():
    pmids = [str(n % 50) for n in range(200)]

    found = fold_of(pmids, 5)

    assert found == fold_of(pmids[::-1], 5)
    assert sorted(found.values()) == sorted(list(range(5)) * 10)
    assert found != {pmid: int(pmid) % 5 for pmid in found}


def test_equal_input_gives_equal_doubts_and_other_folds_others():
    samples, states, _ = world(60, wrong=0.2)

    one, two = (out_of_fold(samples, states, **KNOBS) for _ in range(2))
    other = out_of_fold(samples, states, folds=3, strength=0.1)

    assert (one == two).all()
    assert (one != other).any()
    assert np.allclose(one.sum(axis=1), 1, atol=1e-5)


def test_the_suspects_are_those_off_the_confident_joint():
    """By hand: thresholds .7 (yes) and .75 (no); only the fourth is above that of the other answer."""
    rows = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.8, 0.2, 0.0],
            [0.7, 0.3, 0.0],
            [0.2, 0.8, 0.0],
            [0.1, 0.9, 0.0],
            [0.4, 0.6, 0.0],
        ]
    )

    assert suspects(["yes", "yes", "yes", "yes", "no", "no"], rows) == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("answers", [[], ["yes"], ["yes", "yes", "yes"]])
def test_one_answer_alone_is_never_doubted(answers):
    samples = [Sample(f"{n}", str(n), a, f"a:{n}:0", "a") for n, a in enumerate(answers)]
    judged = judge(samples, np.ones((len(answers), 4)), **KNOBS)

    assert judged.suspected == [False] * len(answers)
    assert noise(samples, judged.probabilities) is None
    assert summarise(samples, judged, doubts(samples, judged, believed=True))["n"] == len(answers)
    assert not trusted(measure(samples, judged))
