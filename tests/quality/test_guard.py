"""The second net: held-out texts in other clothes are hits or near, and a hit on test stops."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage
from medslm.errors import LeakageError
from medslm.quality.guard import Bounds, Guard, counted, require_no_test_hit
from medslm.quality.nearness import LetterIndex, RunIndex, WholeIndex, letters
from medslm.quality.text import jaccard
from tests.factories import pair, question

BOUNDS = Bounds(
    hit_letters=0.7,
    near_letters=0.45,
    hit_runs=0.5,
    near_runs=0.2,
    hit_cosine=0.95,
    near_cosine=0.75,
)
TOLD = (
    "Early ward rounds before breakfast were followed by fewer falls among 300 older women, and night "
    "staff reported calmer hours with less noise on both floors of the building in every season."
)
TEST = question(
    "90",
    question="Do early ward rounds lower the rate of falls among older women in rural hospitals?",
    sections=(Passage("RESULTS", TOLD),),
    long_answer="Rounds before breakfast made falls of older women rarer in all eleven rural hospitals.",
)
DEV = question(
    "50", question="Is the dose of aspirin lower after a stroke in elderly men from islands?"
)


def guard(**overrides):
    return Guard([DEV], [TEST], BOUNDS, **overrides)


def matched(of, **overrides):
    found = guard(**overrides).matches([of])
    return [(m.part, m.how, m.hit) for m in found]


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        (TEST.question, True),
        (TEST.question.upper().replace("WARD", "\uff37ard ").replace(" OF", " of,"), True),
        (TEST.question.replace("rural", "urban"), True),
        ("Do early ward rounds lower the rate of falls among younger men from two cities?", False),
    ],
)
def test_a_test_question_is_found_word_by_word_and_with_words_exchanged(text, hit):
    [(part, _, found)] = matched(pair(question=text, strategy="new"))

    assert (part, found) == ("test", hit)


@pytest.mark.parametrize(
    ("field", "text", "hit"),
    [
        ("long_answer", TEST.long_answer, True),
        ("long_answer", f"It was seen that {TEST.long_answer}", True),
        ("long_answer", " ".join(TEST.long_answer.split()[:10]), False),
        ("context", f"We asked. {TOLD}", True),
        ("question", f"Is it so that {TOLD}?", True),
        ("context", f"{' '.join(TOLD.split()[:14])} {'and other things were told ' * 4}", False),
    ],
)
def test_abstracts_and_conclusions_are_found_in_every_text(field, text, hit):
    [(part, _, found)] = matched(pair(strategy="new", **{field: text}))

    assert (part, found) == ("test", hit)


MUCH = "Other wards were seen as well, and much else was told of beds, meals and visitors. " * 9


@pytest.mark.parametrize("field", ["question", "long_answer", "context"])
@pytest.mark.parametrize(
    ("text", "hit"),
    [
        (TEST.question, True),
        (TEST.long_answer, True),
        (TOLD, True),
        (" ".join(TEST.question.split()[2:13]), True),
        (" ".join(TEST.question.split()[2:12]), False),
        (" ".join(TOLD.split()[:12]), False),
    ],
)
def test_a_held_out_text_inside_a_longer_one_is_found_though_it_is_a_small_share(field, text, hit):
    found = matched(pair(strategy="new", **{field: f"{MUCH}{text} {MUCH}"}))

    assert found == ([("test", "holds its words", True)] if hit else [])


def test_a_question_too_short_for_runs_is_found_as_a_whole_and_only_as_a_whole():
    short = question("90", question="Is night staff calmer?", long_answer="Calm was common.")
    held_out = Guard([], [short], BOUNDS)

    def found(text, pmid="1"):
        return [m.hit for m in held_out.matches([pair(pmid, strategy="new", context=text)])]

    assert found(f"{MUCH} IS  night-staff calmer? {MUCH}") == [True]
    assert found(f"{MUCH} Is night staff calmer?", pmid="90") == []
    assert found(f"{MUCH} Is night staff paid? {MUCH} Calm was common.") == []
    assert found(f"{MUCH} This night staff calmer {MUCH}") == []


@pytest.mark.parametrize(
    "text",
    [
        "Are falls of older men on islands rarer with aspirin?",
        "Do early discharge calls lower the rate of returns among younger men?",
        "There was no significant difference between the two groups of the study.",
    ],
)
def test_like_words_and_common_speech_are_no_leak(text):
    assert matched(pair(question=text)) == []
    assert matched(pair(long_answer=text)) == []


def test_what_every_abstract_says_is_no_hit_even_if_it_is_all_that_is_said():
    common = "There was no significant difference between the two groups."
    held_out = Guard([], [question("90", long_answer=common)], BOUNDS)

    assert held_out.matches([pair(long_answer=common)]) == []


def test_an_unlabelled_study_that_is_a_test_one_under_another_pmid_stops_and_a_dev_one_does_not():
    told = Passage("RESULTS", " ".join(f"word{number}" for number in range(40)))
    dev = question("50", sections=(told,), long_answer="")
    unlabelled = [
        question("70", sections=(Passage("A", f"Once more: {TOLD}"),)),
        question("71", sections=(told,)),
        question("72"),
    ]
    pairs = [pair(q.pmid, question=f"Is the stay of group {q.pmid} short?") for q in unlabelled]
    guarding = Guard([dev], [TEST], BOUNDS)
    found = guarding.matches(pairs, unlabelled)

    assert [(m.pair_id, m.part, m.pmid) for m in found if m.hit] == [
        (pairs[0].id, "test", "90"),
        (pairs[1].id, "dev", "50"),
    ]
    assert len(found) == 2
    with pytest.raises(LeakageError, match=r"1 pair.*local-rewrite:70:0 \(test PMID 90, "):
        require_no_test_hit(found, frozenset())
    assert guarding.matches(pairs) == []


def test_a_pairs_own_study_may_be_a_dev_one():
    copied = {"question": DEV.question, "strategy": "new"}

    assert matched(pair("50", **copied)) == []
    assert matched(pair("1", **copied)) == [("dev", "same words", True)]


def test_a_hit_on_test_stops_and_lists_the_pairs_and_nothing_else_stops():
    leaked = pair("1", 3, strategy="new", question=TEST.question)
    on_dev = pair("2", strategy="new", question=DEV.question)
    near = pair("3", strategy="new", question=TEST.question[:48] + "?")
    found = guard().matches([near, leaked, on_dev])

    assert {m.pair_id for m in found} == {near.id, leaked.id, on_dev.id}
    with pytest.raises(LeakageError, match=r"1 pair.*local-rewrite:1:3 \(test PMID 90, ") as caught:
        require_no_test_hit(found, frozenset())
    assert caught.value.exit_code == 12
    assert on_dev.id not in str(caught.value)
    require_no_test_hit(found, frozenset({leaked.id}))
    require_no_test_hit([m for m in found if m.pair_id != leaked.id], frozenset())
    assert counted(found) == {"dev_hits": 1, "dev_near": 0, "test_hits": 1, "test_near": 1}


def test_vectors_find_what_no_letter_shows():
    words = {"falls": 0, "tumbles": 0, "aspirin": 1, "treatment": 2, "Treatment": 2}

    def embed(texts):
        rows = np.zeros((len(texts), 4), np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[[at for word, at in words.items() if word in text] or [3]] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    asked = pair(question="Would ladies stumble and have tumbles less often?", long_answer="So.")

    assert matched(asked) == []
    assert matched(asked, embed=embed) == [("test", "meaning", True)]
    assert matched(pair(question="Is it about others?", long_answer=""), embed=embed) == []


def test_nothing_held_out_and_nothing_asked_are_no_matches():
    assert Guard([], [], BOUNDS).matches([pair()]) == []
    assert guard().matches([]) == []
    assert matched(pair(question="?", long_answer="")) == []


@given(st.randoms(use_true_random=False))
def test_the_order_of_pairs_and_studies_changes_no_match(rng: random.Random):
    pairs = [
        pair(str(n), strategy="new", question=text)
        for n, text in enumerate([TEST.question, DEV.question, "Is it so?"])
    ]
    one = Guard([DEV], [TEST], BOUNDS).matches(pairs)
    other = Guard([DEV], [TEST], BOUNDS).matches(rng.sample(pairs, len(pairs)))

    assert sorted(one) == sorted(other)


WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=14).map(" ".join)


@given(
    st.lists(WORDS, max_size=4),
    WORDS,
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([0.1, 0.5, 1.0]),
)
def test_the_index_of_runs_finds_what_comparing_one_by_one_finds(texts, asked, bound, held):
    def runs(text):
        tokens = text.split()
        return {tuple(tokens[i : i + 8]) for i in range(len(tokens) - 7)}

    expected = set()
    for number, text in enumerate(texts):
        if both := len(runs(asked) & runs(text)):
            shares = both / len(runs(asked)), both / len(runs(text))
            if shares[0] >= bound or shares[1] >= held:
                expected.add((number, *shares, both))
    assert {tuple(near) for near in RunIndex(texts).near(asked, bound, held)} == expected


@given(st.lists(WORDS, max_size=6), WORDS)
def test_the_index_of_whole_texts_finds_what_comparing_one_by_one_finds(texts, asked):
    expected = [n for n, text in enumerate(texts) if text and f" {text} " in f" {asked} "]

    assert sorted(WholeIndex(texts).within(asked)) == expected


def test_minhash_proposes_nearly_all_that_overlap_enough_and_only_those_pass():
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randrange(3, 9))) for _ in range(300)]
    texts = [" ".join(rng.choices(words, k=14)) for _ in range(200)]
    index = LetterIndex(texts, 0.45)
    found = expected = 0
    for text in texts:
        tokens = text.split()
        for changes in (1, 2, 3):
            for at in rng.sample(range(14), changes):
                tokens[at] = rng.choice(words)
            asked = " ".join(tokens)
            near = {n.number: n.share for n in index.near(asked)}
            close = {n for n, t in enumerate(texts) if jaccard(letters(asked), letters(t)) >= 0.45}
            assert set(near) <= close
            expected += len(close)
            found += len(set(near) & close)

    assert expected > 400
    assert found / expected > 0.98
