from __future__ import annotations

import pytest

from medslm.data.mix import mix
from medslm.errors import DataError, LeakageError
from tests.factories import pair, question

TRAIN = [question(pmid="1"), question(pmid="2", answer="no")]


def test_real_questions_come_first_and_none_is_lost():
    examples = mix(TRAIN, {"b": [pair("2")], "a": [pair("1"), pair("1", 1, answer="no")]})

    assert [(e.source, e.pmid, e.answer) for e in examples] == [
        ("real", "1", "yes"),
        ("real", "2", "no"),
        ("b", "2", "yes"),
        ("a", "1", "yes"),
        ("a", "1", "no"),
    ]
    assert examples[2].context == TRAIN[1].context
    assert examples[0].pair_id is None
    assert examples[2].pair_id == "local-rewrite:2:0"


def test_a_pair_about_a_held_out_abstract_is_refused():
    with pytest.raises(LeakageError, match="PMID 3, which is not a training one"):
        mix(TRAIN, {"a": [pair("3")]})


def test_an_empty_training_split_is_refused():
    with pytest.raises(DataError, match="nothing to train on"):
        mix([], {})
