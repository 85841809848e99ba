"""Planted defects are found, clean pairs stay, and the numbers in metrics/planted.json are these."""

from __future__ import annotations

import importlib.util
import random

import pytest
from benchmarks.planted import judge_of, measure

from medslm.files import read_json
from medslm.quality.embeddings import PACKAGE, MiniLM
from tests.code_deps import ROOT
from tests.quality.fictional import world
from tests.quality.planted import (
    CONTROLS,
    KINDS,
    PER_KIND,
    REPLIES,
    RULES,
    VECTORS,
    appended,
    eligible,
)

MOST_FALSE_DROPS = 0.03
FEWEST_PARAPHRASES = 0.9


@pytest.fixture(scope="module")
def by_letters():
    return measure(ROOT / "params.yaml", None)


def test_every_kind_that_rules_promise_is_found_each_of_fifty_times(by_letters):
    kinds = by_letters["kinds"]

    assert set(kinds) == {*KINDS, *(f"reply_{name}" for name in REPLIES)}
    assert {row["planted"] for row in kinds.values()} == {PER_KIND} == {50}
    promised = {name: row["recall"] for name, row in kinds.items() if row["by"] == RULES}
    assert len(promised) > 40
    assert {name: recall for name, recall in promised.items() if recall < 1} == {}


def test_clean_pairs_stay_and_stop_nothing(by_letters):
    assert by_letters["clean"]["pairs"] == 360
    assert by_letters["clean"]["share"] < MOST_FALSE_DROPS
    assert by_letters["stops"] == 0


@pytest.mark.parametrize("name", CONTROLS)
def test_what_looks_like_a_defect_and_says_what_its_source_says_stays(name):
    there = world()
    pairs = eligible(there, KINDS[name])
    kept = judge_of(ROOT / "params.yaml", there).kept(
        [same for pair in pairs for same in CONTROLS[name](pair, there, random.Random(0))]
    )

    assert len(pairs) > PER_KIND
    assert len(kept) / len(pairs) > 1 - MOST_FALSE_DROPS


def test_any_other_sentence_in_an_abstract_stops_nothing():
    there = world()
    damage = appended(lambda _, rng: f"Of {rng.randrange(9)} wards no more was heard that year.")
    harmless = [
        edited for pair in there.pairs[1::3] for edited in damage(pair, there, random.Random(0))
    ]

    assert len(harmless) == 120
    assert judge_of(ROOT / "params.yaml", there).stops(harmless) == set()


def test_what_needs_more_than_rules_is_told_and_not_promised(by_letters):
    kinds = by_letters["kinds"]

    assert kinds["label_flip_of_a_new_pair"]["recall"] < 0.1
    assert kinds["test_question_paraphrased"]["recall"] < 0.1


def test_the_numbers_in_git_are_these(by_letters):
    assert read_json(ROOT / "metrics" / "planted.json")["letters"] == by_letters


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="needs the extra `embeddings`"
)
def test_paraphrases_of_test_studies_are_found_by_their_vectors():
    found = measure(ROOT / "params.yaml", MiniLM())

    assert {row["by"] for row in found["kinds"].values()} == {VECTORS}
    assert all(row["recall"] >= FEWEST_PARAPHRASES for row in found["kinds"].values())
    assert found["clean"]["share"] < MOST_FALSE_DROPS
