from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.pubmedqa import read_questions
from medslm.data.split import (
    OFFICIAL_TEST_SHA256,
    Fold,
    pmids_sha256,
    read_folds,
    select,
    split,
    unlabelled_part,
    write_folds,
)
from medslm.errors import DataError, LeakageError, ParamsError
from tests.factories import question

SAMPLE = Path(__file__).parent.parent.parent / "data" / "sample" / "pqal.json"


def labelled(answers):
    return [question(pmid=str(i + 1), answer=answer) for i, answer in enumerate(answers)]


@given(st.lists(st.sampled_from(["yes", "no", "maybe"]), min_size=20, max_size=200))
def test_every_question_is_in_the_test_half_or_once_in_train_and_dev(answers):
    questions = labelled(answers)

    result = split(questions, protocol="official")

    everything = sorted(q.pmid for q in questions)
    assert len(result.folds) == 10
    for fold in result.folds:
        assert sorted([*fold.train, *fold.dev, *result.test]) == everything
    held_out = [pmid for fold in result.folds for pmid in fold.dev]
    assert sorted([*held_out, *result.test]) == everything


def test_the_sample_splits_the_same_way_every_time_and_otherwise_when_its_order_changes():
    questions = read_questions(SAMPLE)

    first = split(questions, protocol="official")

    assert first == split(questions, protocol="official")
    assert first != split(questions[::-1], protocol="official")
    assert Counter(q.answer for q in questions if q.pmid in first.test) == {
        "yes": 44,
        "no": 27,
        "maybe": 9,
    }
    assert [len(fold.dev) for fold in first.folds] == [8, 8, 8, 8, 8, 8, 8, 8, 7, 9]
    assert pmids_sha256(first.test) == (
        "f5588a7c21b8aeae9c05818772e1bcb5683ae30bf4d08613440de6eb30cc8770"
    )


@pytest.mark.real
def test_the_real_pqal_gives_the_official_test_set_and_ten_folds_of_fifty(real_pubmedqa):
    questions = read_questions(real_pubmedqa)
    answer = {q.pmid: q.answer for q in questions}

    result = split(questions, protocol="official")

    assert pmids_sha256(result.test) == OFFICIAL_TEST_SHA256
    assert [len(fold.dev) for fold in result.folds] == [50] * 10
    assert Counter(answer[p] for p in result.folds[0].train) == {"yes": 249, "no": 152, "maybe": 49}
    assert Counter(answer[p] for p in result.folds[0].dev) == {"yes": 27, "no": 17, "maybe": 6}


@pytest.mark.real
def test_b06_a_reordered_or_relabelled_pqal_is_refused(real_pubmedqa):
    questions = read_questions(real_pubmedqa)

    with pytest.raises(LeakageError, match="fetch it again"):
        split([questions[1], questions[0], *questions[2:]][::-1], protocol="official")


def test_the_last_half_protocol_goes_by_file_order():
    questions = labelled(["yes"] * 1000)

    [fold], test = split(questions, protocol="last-500")

    assert (fold.train[0], fold.train[-1]) == ("1", "450")
    assert (fold.dev[0], fold.dev[-1]) == ("451", "500")
    assert (test[0], test[-1]) == ("501", "1000")


def test_what_cannot_be_split_is_refused():
    with pytest.raises(DataError, match="PMID 3: has no final_decision"):
        split([*labelled(["yes"] * 2), question(pmid="3", answer=None)], protocol="official")
    with pytest.raises(DataError, match="PMID 1: stands twice"):
        split([*labelled(["yes"] * 20), question(pmid="1")], protocol="official")
    with pytest.raises(DataError, match="too few"):
        split(labelled(["yes"] * 19), protocol="official")


def test_only_folds_that_exist_can_be_selected(tmp_path):
    result = split(labelled(["yes", "no"] * 20), protocol="official")

    chosen = select(result, [3, 0])
    write_folds(tmp_path / "folds.json", chosen)

    assert read_folds(tmp_path / "folds.json") == {"0": result.folds[0], "3": result.folds[3]}
    with pytest.raises(ParamsError, match="fold 1 does not exist"):
        select(split(labelled(["yes"] * 40), protocol="last-500"), [1])
    with pytest.raises(ParamsError, match="names a fold twice"):
        select(result, [0, 0])


def free(pmids, **overrides):
    return [question(pmid, answer=None, **overrides) for pmid in pmids]


def test_an_unlabelled_question_that_has_a_label_elsewhere_is_left_out_and_counted():
    labelled_ones = labelled(["yes"] * 20)

    questions, left_out = unlabelled_part(free(["3", "70", "71"]), labelled_ones, limit=None)

    assert [q.pmid for q in questions] == ["70", "71"]
    assert left_out == 1
    assert unlabelled_part([], labelled_ones, limit=3) == ([], 0)


@given(st.permutations([str(n) for n in range(30, 60)]), st.integers(1, 40))
def test_a_limit_keeps_the_same_questions_whatever_the_order_and_a_higher_one_adds(pmids, limit):
    candidates = free(pmids)

    few, _ = unlabelled_part(candidates, [], limit=limit)
    more, _ = unlabelled_part(candidates[::-1], [], limit=limit + 1)

    assert len(few) == min(limit, 30)
    assert {q.pmid for q in few} <= {q.pmid for q in more}
    assert [q.pmid for q in few] == [p for p in pmids if p in {q.pmid for q in few}]


def test_questions_with_a_label_or_repeated_are_no_unlabelled_ones():
    with pytest.raises(DataError, match="PMID 71: has a final_decision"):
        unlabelled_part([*free(["70"]), question("71")], [], limit=None)
    with pytest.raises(DataError, match="PMID 70: stands twice"):
        unlabelled_part(free(["70", "71", "70"]), [], limit=None)


def test_a_file_that_holds_no_folds_is_refused(tmp_path):
    path = tmp_path / "folds.json"
    path.write_text('{"0": {"train": ["1"]}}')

    with pytest.raises(DataError, match="not a file of folds"):
        read_folds(path)
    assert Fold(("1",), ("2",)).train == ("1",)
