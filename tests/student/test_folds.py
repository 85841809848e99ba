"""No pair of a study reaches the training of the fold that holds it out, in its own clothes or others."""

from __future__ import annotations

import pytest

from medslm.data.mix import mix
from medslm.data.split import FOLDS, select, split
from medslm.models import Loaded
from medslm.quality.check import check
from medslm.quality.guard import Bounds, Guard
from medslm.quality.pool import pool
from medslm.student.cells import cell_data
from tests.factories import pair
from tests.quality.builders import LIMITS, ballot
from tests.quality.fictional import world
from tests.quality.test_guard import BOUNDS
from tests.tiny import tiny_tokenizer

EVERYTHING = world(3, train=200, held_out=0)
CUT = split(EVERYTHING.train, protocol="official")
IN_TEST = set(CUT.test)
LEARNED = [study for study in EVERYTHING.train if study.pmid not in IN_TEST]
TEST = [study for study in EVERYTHING.train if study.pmid in IN_TEST]
ALL_FOLDS = select(CUT, range(FOLDS))


def copies():
    """Return pairs that ask word for word what another study asks, one per study that is learned from."""
    return [
        pair(
            one.pmid,
            7,
            id=f"copy:{one.pmid}:7",
            strategy="new",
            question=other.question,
            long_answer="",
        )
        for one, other in zip(LEARNED, [*LEARNED[1:], LEARNED[0]], strict=True)
    ]


def trained_on(limits=LIMITS, bounds: Bounds = BOUNDS):
    """Return what each fold trains on, as text, after every check, the pool and the mix."""
    known = {study.pmid for study in LEARNED}
    pairs = [p for p in EVERYTHING.pairs if p.pmid in known] + copies()
    matches = Guard(LEARNED, TEST, bounds).matches(pairs)
    checked = check(
        pairs,
        [ballot(p) for p in pairs],
        train=LEARNED,
        unlabelled=[],
        dev=LEARNED,  # every study is held out by one of the ten folds
        test=TEST,
        limits=limits,
        leaking={match.pair_id for match in matches},
    )
    pooled = pool(
        {"all": checked.kept}, near_identical=0.85, near_duplicate=0.8, doubted=frozenset()
    )
    examples = mix(LEARNED, [], pooled.kept).examples
    tokenizer = tiny_tokenizer()
    loaded = Loaded(None, tokenizer, "tiny", "0" * 64, "float32")
    return {
        name: [
            tokenizer.decode(row.ids)
            for row in cell_data(loaded, fold, examples, LEARNED, 4096).train
        ]
        for name, fold in ALL_FOLDS.items()
    }


@pytest.fixture(scope="module")
def texts():
    return trained_on()


def test_every_study_is_held_out_once_and_every_fold_trains_on_pairs_of_the_others(texts):
    assert sorted(p for fold in ALL_FOLDS.values() for p in fold.dev) == sorted(
        study.pmid for study in LEARNED
    )
    for name, fold in ALL_FOLDS.items():
        assert len(texts[name]) > 2 * len(fold.train)


def test_no_fold_trains_on_an_abstract_or_a_question_that_it_holds_out(texts):
    by_pmid = {study.pmid: study for study in LEARNED}
    for name, fold in ALL_FOLDS.items():
        for study in (by_pmid[pmid] for pmid in fold.dev):
            for text in texts[name]:
                assert study.sections[1].text not in text
                assert study.question not in text


def test_without_the_checks_copies_would_reach_the_folds_that_hold_the_originals_out():
    by_pmid = {study.pmid: study for study in LEARNED}
    unchecked = mix(LEARNED, [], {"all": copies()}).examples
    reached = 0
    for fold in ALL_FOLDS.values():
        held_out = {by_pmid[pmid].question for pmid in fold.dev}
        trained = [example for example in unchecked if example.pmid not in fold.dev]
        reached += sum(example.question in held_out for example in trained)

    assert reached > len(LEARNED) // 2


def test_a_pair_of_a_test_study_reaches_no_fold(texts):
    for rows in texts.values():
        for text in rows:
            assert not any(study.question in text for study in TEST)
