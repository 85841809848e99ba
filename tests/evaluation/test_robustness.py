"""The robustness figure: its intervals and its drawing."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import f1_score

from medslm.evaluation import robustness
from medslm.evaluation.bootstrap import macro_f1_interval
from medslm.evaluation.svg import standalone


def test_the_interval_of_macro_f1_holds_what_resampling_question_by_question_gives():
    table = [[60, 10, 5, 0], [12, 40, 3, 2], [9, 6, 3, 0]]
    rows = [(g, a) for g in range(3) for a in range(4) for _ in range(table[g][a])]
    rng = random.Random(1)
    found = []
    for _ in range(400):
        drawn = rng.choices(rows, k=len(rows))
        gold, given = zip(*drawn, strict=True)
        found.append(f1_score(gold, given, labels=[0, 1, 2], average="macro", zero_division=0))
    found.sort()

    low, high = macro_f1_interval(table)

    assert low == pytest.approx(found[10], abs=0.02)
    assert high == pytest.approx(found[-11], abs=0.02)
    narrow = macro_f1_interval([[c * 4 for c in row] for row in table])
    # control: four times the questions, half the width
    assert narrow.high - narrow.low < 0.6 * (high - low)


def test_a_figure_of_one_point_is_drawn_too():
    whole = [[30, 3, 2, 0], [4, 30, 1, 0], [3, 2, 10, 0]]
    one = robustness.Point(
        "lora",
        "alpha",
        8,
        85,
        0.8,
        robustness.Interval(0.7, 0.9),
        0.7,
        macro_f1_interval(whole),
    )

    text = standalone(robustness.figure([one], variant="none", cite=True))

    assert "nan" not in text
    assert ">alpha<" in text
    assert "n = 85" in text
    assert "Guo" in text
