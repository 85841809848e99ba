from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.teacher.prompts import load_prompt, parse_prompt
from medslm.teacher.requests import Request, build_requests, derived_seed, wanted_answer
from tests.factories import question

REWRITE = load_prompt("rewrite", "chat", "v1")


def requests(questions: list[Any] | None = None, **overrides: Any) -> list[Request]:
    known: dict[str, Any] = {
        "prompt": REWRITE,
        "strategy": "rewrite",
        "per_question": 2,
        "seed": 0,
        "model": "m",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 80,
        "identity": lambda *_: {"backend": "openai", "base_url": "http://a"},
    }
    return build_requests(questions or [question("1"), question("2")], **{**known, **overrides})


def test_requests_follow_the_questions_then_the_index():
    made = requests([question("7"), question("3")])

    assert [(r.pmid, r.index) for r in made] == [("7", 0), ("7", 1), ("3", 0), ("3", 1)]


def test_the_same_settings_give_the_same_keys_and_no_two_requests_share_one():
    made = requests()

    assert made == requests()
    assert len({r.key for r in made}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"temperature": 0.8},
        {"temperature": None},
        {"top_p": 0.8},
        {"max_tokens": 81},
        {"model": "other"},
        {"identity": lambda *_: {"backend": "openai", "base_url": "http://b"}},
        {"prompt": load_prompt("rewrite", "completion", "v1")},
        {
            "prompt": parse_prompt(
                "[system]\nOther words.\n[user]\n$case",
                name=REWRITE.name,
                strategy="rewrite",
                style="chat",
            )
        },
        {"questions": [question("1", long_answer="x"), question("2", long_answer="x")]},
    ],
    ids=lambda change: "-".join(change),
)
def test_whatever_shapes_a_reply_changes_every_key(change):
    changed = {r.key for r in requests(**change)}

    assert changed.isdisjoint(r.key for r in requests())


def test_more_per_question_and_more_questions_leave_the_old_keys_alone():
    few = {r.key for r in requests(per_question=1)}
    more = {r.key for r in requests([question("9"), question("1"), question("2")], per_question=3)}

    assert few < more


def test_the_index_of_a_new_question_changes_seed_and_wording():
    prompt = load_prompt("new", "chat", "v1")

    first, second = requests([question("1")], prompt=prompt, strategy="new")

    assert first.sampling.seed != second.sampling.seed
    assert first.messages != second.messages


def test_no_question_is_an_error():
    with pytest.raises(DataError, match="train split is empty"):
        build_requests([], **{**_known(), "prompt": REWRITE})


def test_a_repeated_pmid_is_named():
    with pytest.raises(DataError, match="PMID 4 "):
        requests([question("4"), question("5"), question("4")])


@given(st.integers(0, 2**32), st.text(), st.integers(0, 99))
def test_a_derived_seed_fits_31_bits(seed, pmid, index):
    assert 0 <= derived_seed(seed, pmid, "new", index) < 2**31


def test_wanted_answers_come_in_their_shares():
    wanted = Counter(wanted_answer(derived_seed(0, str(n), "new", 0)) for n in range(4000))

    assert wanted["yes"] / 4000 == pytest.approx(0.45, abs=0.03)
    assert wanted["no"] / 4000 == pytest.approx(0.35, abs=0.03)
    assert wanted["maybe"] / 4000 == pytest.approx(0.20, abs=0.03)


def _known() -> dict[str, Any]:
    return {
        "strategy": "rewrite",
        "per_question": 1,
        "seed": 0,
        "model": "m",
        "temperature": None,
        "top_p": None,
        "max_tokens": 1,
        "identity": lambda *_: {},
    }
