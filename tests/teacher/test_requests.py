from __future__ import annotations

import dataclasses
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage
from medslm.errors import DataError, LeakageError, ParamsError
from medslm.teacher import prompts
from medslm.teacher.prompts import load_prompt, parse_prompt
from medslm.teacher.requests import Request, build_requests, derived_seed
from tests.factories import question
from tests.teacher.asked import requests

REWRITE = load_prompt("rewrite", "chat", "v1")


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


def test_a_key_is_the_same_in_every_version_of_this_project():
    """Replies that were paid for are found by it: these are of the first version."""
    asked = [question("1"), question("7", question="Caf\u00e9 na\u00efve?")]
    known = {"model": "smollm2-135m", "identity": lambda *_: {"backend": "local", "weights": "abc"}}

    rewrites = requests(asked, prompt=load_prompt("rewrite", "completion", "v1"), **known)
    new = load_prompt("new", "completion", "v1")
    others = requests(asked, prompt=new, strategy="new", **known)

    first = "e70f327e0ffa259ca327a1af94bcf9c4499f18362d600343bbe1adb3706800da"
    assert rewrites[3].key == first
    assert others[3].key == "1155fadac96a2130e1c7f3f1ff8a7d89dc173fec0caf71c42bb71c5784af5dfc"
    assert requests(asked, **known)[3].key != first


def test_messages_are_written_when_they_are_asked_for_and_the_same_each_time():
    (request,) = requests([question("1")], per_question=1)

    assert request.messages == request.messages
    assert "120 adults" in request.messages[1].content
    assert "120 adults" not in repr(request)


def test_a_request_takes_less_than_a_kilobyte_whatever_it_says():
    long = question("1", sections=(Passage("RESULTS", "It was so. " * 1000),))
    studies = [dataclasses.replace(long, pmid=str(n)) for n in range(400)]
    prompt = load_prompt("new", "chat", "v2")
    requests(studies[:1], prompt=prompt, strategy="new")  # fills the caches

    tracemalloc.start()
    made = requests(studies, prompt=prompt, strategy="new", per_question=5)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(made) == 2000
    assert held / 2000 < 1000
    assert sum(len(m.content) for m in made[0].messages) > 10_000


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged prompts that is read in their place."""
    shutil.copytree(Path(prompts.__file__).parent / "prompts", tmp_path / "prompts")
    monkeypatch.setattr(prompts.resources, "files", lambda _package: tmp_path)
    return tmp_path / "prompts"


def keys_by_prompt(packaged: Path) -> dict[str, set[str]]:
    keys = {}
    for file in packaged.rglob("*.txt"):
        style, version = file.stem.split("-")
        prompt = load_prompt(file.parent.name, style, version)
        made = requests(prompt=prompt, strategy=prompt.strategy)
        keys[prompt.name] = {request.key for request in made}
    return keys


def test_a_change_of_one_prompt_file_changes_the_keys_of_that_prompt_alone(packaged):
    before = keys_by_prompt(packaged)
    changed = packaged / "new" / "chat-v2.txt"
    changed.write_text(changed.read_text(encoding="utf-8").replace("medical", "clinical"))

    after = keys_by_prompt(packaged)

    assert len(before) == 11
    assert before["new/chat-v2"].isdisjoint(after["new/chat-v2"])
    assert {n: k for n, k in after.items() if n != "new/chat-v2"} == {
        n: k for n, k in before.items() if n != "new/chat-v2"
    }


def test_a_file_that_is_only_touched_changes_no_key(packaged):
    before = keys_by_prompt(packaged)
    for file in packaged.rglob("*.txt"):
        file.write_text(file.read_text(encoding="utf-8") + "\n")

    assert keys_by_prompt(packaged) == before


def test_new_questions_aim_at_answers_in_the_shares_they_are_given():
    prompt = load_prompt("new", "chat", "v2")
    studies = [question(str(n)) for n in range(20)]
    known = {"prompt": prompt, "strategy": "new", "per_question": 1}

    def aimed(**shares: float) -> Counter[str]:
        made = requests(studies, answers=shares, **known)
        return Counter(r.messages[1].content.rsplit('"', 2)[1] for r in made)

    assert aimed(yes=0.5, no=0.25, maybe=0.25) == {"yes": 10, "no": 5, "maybe": 5}
    assert aimed(maybe=1) == {"maybe": 20}


@pytest.mark.parametrize("strategy", ["rewrite", "counterfactual"])
def test_what_rests_on_a_gold_answer_is_not_asked_without_one(strategy):
    with pytest.raises(DataError, match=f"PMID 2 has no gold answer, which strategy {strategy}"):
        requests([question("1"), question("2", answer=None)], prompt=None, strategy=strategy)


@pytest.mark.parametrize("strategy", ["new", "pseudo-label", "answer"])
def test_what_does_not_is(strategy):
    assert len(requests([question("2", answer=None)], prompt=None, strategy=strategy)) == 2


def answering(shots: list[Any], **overrides: Any) -> list[Request]:
    known = {"prompt": load_prompt("answer", "chat", "v1"), "strategy": "answer", **overrides}
    return requests([question("1")], shots=shots, per_question=1, **known)


def test_worked_examples_shape_the_key_and_so_does_their_order():
    few = [question("8"), question("9", answer="no")]

    keys = {answering(shots)[0].key for shots in ([], few[:1], few, few[::-1])}

    assert len(keys) == 4
    assert answering(few)[0].key == answering(few)[0].key


def test_worked_examples_are_only_for_answers_have_one_and_are_not_asked_about():
    with pytest.raises(ParamsError, match="strategy rewrite takes no worked examples"):
        requests(shots=[question("9")])
    with pytest.raises(DataError, match="PMID 9: a worked example without an answer"):
        answering([question("9", answer=None)])
    with pytest.raises(LeakageError, match="PMID 1 is asked about and shown"):
        answering([question("1")])


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
