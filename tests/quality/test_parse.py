"""Every reply gives one pair or one named reason."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medslm.data.records import Pair, Unreadable
from medslm.errors import DataError, LeakageError
from medslm.files import read_jsonl, write_jsonl
from medslm.quality.fields import Unread
from medslm.quality.parse import parse, parse_all
from tests.factories import exchange, question

GOOD = {"question": "Is care cheaper?", "answer": "no", "long_answer": "Costs were equal."}


def new(content, **overrides):
    return exchange(content=content, **{"strategy": "new", "prompt": "new/chat-v1", **overrides})


def read(content, **overrides):
    return parse(new(content, **overrides), question(), "ask")


def reason(content, **overrides):
    result = read(content, **overrides)
    assert isinstance(result, Unreadable), result
    return result.reason


def test_a_json_reply_becomes_a_pair_that_remembers_where_it_came_from():
    reply = new(json.dumps(GOOD), pmid="7", index=2)

    pair = parse(reply, question(pmid="7"), "local-new")

    assert pair == Pair(
        id="local-new:7:2",
        pmid="7",
        strategy="new",
        teacher="local",
        prompt="new/chat-v1",
        reply_key=reply.key,
        question="Is care cheaper?",
        context=None,
        answer="no",
        long_answer="Costs were equal.",
    )


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD, indent=2),
        f"```json\n{json.dumps(GOOD)}\n```",
        f"Here it is:\n\n```\n{json.dumps(GOOD)}\n```\nI hope it helps.",
        "Question: Is care cheaper?\nAnswer: no\nLong_answer: Costs were equal.",
        "question: Is care cheaper?\n\nANSWER: No.\nReason: Costs\n  were equal.",
        "**Question:** Is care cheaper?\n**Answer:** No\n**Long answer:** Costs were equal.",
        "1. Question: Is care cheaper?\n2. Answer: no\n3. Reason: Costs were equal.",
        "1) **Question**: Is care cheaper?\n2) **Answer**: no\n3) **Conclusion**: Costs were equal.",
        '{"Question": "Is  care\\ncheaper?", "ANSWER": "NO!", "conclusion": "Costs were equal."}',
        json.dumps({**GOOD, "confidence": 0.9, "tags": ["x"]}),
    ],
)
def test_forms_of_the_same_reply_give_the_same_pair(content):
    pair = read(content)

    assert (pair.question, pair.answer, pair.long_answer) == tuple(GOOD.values())


def test_a_completion_may_start_with_the_question_itself():
    content = ' "Is care cheaper?"\nAnswer: no\nReason: Costs were equal.'

    assert read(content, prompt="new/completion-v1") == read(
        json.dumps(GOOD), prompt="new/completion-v1"
    )
    assert reason(content, prompt="new/chat-v1") == Unread.NOT_JSON_OR_FIELDS


def test_a_colon_inside_a_question_is_no_key():
    pair = read("Statins in sepsis: do they help?\nAnswer: yes", prompt="new/completion-v1")

    assert pair.question == "Statins in sepsis: do they help?"


def test_a_rewrite_keeps_the_gold_answer_and_lacks_nothing():
    source = question(answer="maybe", long_answer="It is  unclear.")
    content = '{"question": "Is it cheaper?", "answer": "certainly"}'

    pair = parse(exchange(content=content), source, "ask")

    assert (pair.answer, pair.long_answer) == ("maybe", "It is unclear.")


def test_a_rewrite_keeps_its_own_long_answer():
    content = '{"question": "Is it cheaper?", "long_answer": "Costs were equal."}'

    assert parse(exchange(content=content), question(), "ask").long_answer == "Costs were equal."


def test_a_new_pair_may_lack_a_long_answer_but_not_an_answer():
    assert read('{"question": "Is it cheaper?", "answer": "yes"}').long_answer == ""
    assert reason('{"question": "Is it cheaper?", "long_answer": "x"}') == Unread.NO_ANSWER


def test_a_rewrite_of_an_unlabelled_question_has_no_answer():
    result = parse(exchange(), question(answer=None), "ask")

    assert result.reason == Unread.NO_ANSWER


@pytest.mark.parametrize(
    ("said", "answer"), [("Yes.", "yes"), (" MAYBE ", "maybe"), ('"no"', "no")]
)
def test_case_and_punctuation_around_an_answer_do_not_matter(said, answer):
    assert read(json.dumps({**GOOD, "answer": said})).answer == answer


@pytest.mark.parametrize(
    "said", ["yes and no", "yes, because it is", "unclear", "y", "no/maybe", "."]
)
def test_an_answer_is_never_guessed(said):
    assert reason(json.dumps({**GOOD, "answer": said})) == Unread.UNKNOWN_ANSWER


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", Unread.EMPTY),
        (" \n\t ", Unread.EMPTY),
        ("I would rather not.", Unread.NOT_JSON_OR_FIELDS),
        ("[]", Unread.NOT_JSON_OR_FIELDS),
        (json.dumps([GOOD]), Unread.NOT_JSON_OR_FIELDS),
        ('{"query": "x"}', Unread.NOT_JSON_OR_FIELDS),
        (json.dumps(GOOD)[:-1], Unread.NOT_JSON_OR_FIELDS),
        (json.dumps(GOOD) + " Done.", Unread.NOT_JSON_OR_FIELDS),
        ('{"question": NaN}', Unread.NOT_JSON_OR_FIELDS),
        ('{"question": -Infinity}', Unread.NOT_JSON_OR_FIELDS),
        ('{"question": ' + "1" * 5000 + "}", Unread.NOT_JSON_OR_FIELDS),
        ("```\n{}\n```\n```\n{}\n```", Unread.NOT_JSON_OR_FIELDS),
        ("```json\n{}", Unread.NOT_JSON_OR_FIELDS),
        ('{"question": 1e999, "answer": "yes"}', Unread.WRONG_TYPE),
        ('{"question": ["Is it?"], "answer": "yes"}', Unread.WRONG_TYPE),
        ('{"question": "Is it?", "answer": true}', Unread.WRONG_TYPE),
        ('{"question": "Is it?", "question": "Is it?"}', Unread.REPEATED_KEYS),
        ('{"question": "Is it?", "Question": "Is it?"}', Unread.REPEATED_KEYS),
        ('{"question": "Is it?", "reason": "a", "conclusion": "b"}', Unread.REPEATED_KEYS),
        ("Question: Is it?\nQuestion: Is it?", Unread.REPEATED_KEYS),
        ("Question: Is it?\nIndeed.\nAnswer: yes", Unread.STRAY_TEXT),
        ('{"question": null, "answer": "yes"}', Unread.NO_QUESTION),
        ('{"question": "  ", "answer": "yes"}', Unread.NO_QUESTION),
        ('{"answer": "yes"}', Unread.NO_QUESTION),
        ('{"question": "Is it?", "answer": null}', Unread.NO_ANSWER),
        ('{"question": "Is it\u200b?", "answer": "yes"}', Unread.BAD_UNICODE),
        ('{"question": "Is it\\u202e?", "answer": "yes"}', Unread.BAD_UNICODE),
        ('{"question": "Is it\\ud800?", "answer": "yes"}', Unread.BAD_UNICODE),
        ('{"question": "Is it?", "answer": "yes\\u0000"}', Unread.BAD_UNICODE),
        ("Is it\udc80?", Unread.BAD_UNICODE),
        ("[" * 5000, Unread.TOO_DEEP),
        ('{"a":' * 3000, Unread.TOO_DEEP),
        ("a" * 50_000 + "!", Unread.TOO_LONG),
        ("[" * 100_000, Unread.TOO_LONG),
    ],
)
def test_an_unreadable_reply_has_its_one_reason(content, why):
    assert reason(content) == why


def test_brackets_inside_a_string_are_not_depth():
    content = json.dumps({**GOOD, "long_answer": '"' + "[{" * 50 + '\\"'})

    assert read(content).long_answer.count("[") == 50


def test_a_failed_request_says_why_it_failed():
    assert reason(None, finish_reason="content_filter") == "failed:content_filter"
    assert reason(None, finish_reason="missing") == "failed:missing"
    assert reason(json.dumps(GOOD), finish_reason="content_filter") == "failed:content_filter"


def test_a_cut_reply_is_refused_even_if_it_can_be_read():
    assert reason(json.dumps(GOOD), finish_reason="length") == Unread.TRUNCATED
    assert reason(None, finish_reason="length") == Unread.TRUNCATED
    assert isinstance(read(json.dumps(GOOD), finish_reason="stop"), Pair)


def test_text_is_stored_composed():
    assert (
        read('{"question": "Is cafe\u0301 good?", "answer": "no"}').question == "Is caf\u00e9 good?"
    )


def turn(content, **overrides):
    known = {"strategy": "counterfactual", "prompt": "counterfactual/chat-v1", **overrides}
    return exchange(content=content, **known)


EDIT = {"find": "4.1 days", "replace": "6.1 days"}
TURNED = {"edits": [EDIT], "answer": "no", "long_answer": "Stay was no shorter."}


def test_a_counterfactual_is_the_sources_question_about_an_abstract_of_its_own():
    source = question()

    pair = parse(turn(json.dumps(TURNED)), source, "ask")

    assert (pair.question, pair.answer) == (source.question, "no")
    assert pair.context == source.context.replace("4.1 days", "6.1 days")
    assert pair.long_answer == "Stay was no shorter."


@pytest.mark.parametrize(
    "content",
    [
        "4.1 days\nInto: 6.1 days\nAnswer: no\nReason: Stay was no shorter.",
        "Change: 4.1 days\nInto: 6.1 days\nAnswer: no\nReason: Stay was no shorter.",
        '{"change": "4.1 days", "into": "6.1 days", "Answer": "No", "reason": "Stay was no shorter."}',
        json.dumps({**TURNED, "question": "Is it another?"}),
    ],
    ids=["bare", "lines", "json", "with-a-question"],
)
def test_forms_of_the_same_edit_give_the_same_pair(content):
    expected = parse(turn(json.dumps(TURNED)), question(), "ask")

    pair = parse(turn(content, prompt="counterfactual/completion-v1"), question(), "ask")

    assert (pair.context, pair.answer, pair.long_answer) == (
        expected.context,
        "no",
        expected.long_answer,
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"edits": []}, Unread.NO_EDITS),
        ({"edits": None}, Unread.NO_EDITS),
        ({"edits": "4.1"}, Unread.WRONG_TYPE),
        ({"edits": [{**EDIT, "find": "7.7 days"}]}, Unread.EDIT_NOT_FOUND),
        ({"edits": [{**EDIT, "find": "days"}]}, Unread.EDIT_NOT_UNIQUE),
        ({"edits": [EDIT, EDIT]}, Unread.EDITS_OVERLAP),
        ({"edits": [{**EDIT, "replace": "\u202e6.1"}]}, Unread.BAD_UNICODE),
        ({"answer": None}, Unread.NO_ANSWER),
        ({"answer": "perhaps"}, Unread.UNKNOWN_ANSWER),
    ],
)
def test_an_unreadable_counterfactual_has_its_one_reason(change, why):
    result = parse(turn(json.dumps({**TURNED, **change})), question(), "ask")

    assert result.reason == why


def label(content, **overrides):
    known = {"strategy": "pseudo-label", "prompt": "pseudo-label/chat-v1", **overrides}
    return exchange(content=content, **known)


def test_a_pseudo_label_is_the_sources_question_with_the_teachers_answer():
    source = question(answer=None, question="Does it  help?")
    content = '{"long_answer": "Stay was shorter.", "answer": "yes", "question": "Another?"}'

    pair = parse(label(content), source, "ask")

    assert (pair.question, pair.context) == ("Does it help?", None)
    assert (pair.answer, pair.long_answer) == ("yes", "Stay was shorter.")


def test_a_pseudo_label_without_a_reason_has_the_conclusion_and_without_an_answer_is_none():
    bare = parse(label(" No.\n", prompt="pseudo-label/completion-v1"), question(), "ask")
    lines = parse(label("maybe\nReason: x", prompt="pseudo-label/completion-v1"), question(), "a")
    silent = parse(label('{"long_answer": "Stay was shorter."}'), question(), "ask")

    assert (bare.answer, bare.long_answer) == ("no", question().long_answer)
    assert (lines.answer, lines.long_answer) == ("maybe", "x")
    assert silent.reason == Unread.NO_ANSWER
    assert parse(label(" No.\n"), question(), "ask").reason == Unread.NOT_JSON_OR_FIELDS


def test_replies_of_a_strategy_that_makes_no_pairs_are_refused():
    with pytest.raises(DataError, match="ask a: replies to strategy 'answer' make no pairs"):
        parse_all([exchange(strategy="answer")], [question()], "a")


STRATEGIES = ["rewrite", "new", "counterfactual", "pseudo-label"]


@given(content=st.text(), strategy=st.sampled_from(STRATEGIES), bare=st.booleans())
@example(content="Stay was 4.1\nInto: a\nAnswer: no", strategy="counterfactual", bare=True)
@example(content="no", strategy="pseudo-label", bare=True)
@example(content="question:", strategy="new", bare=True)
@example(content="Question: a\nAnswer: yes\nReason:\n:", strategy="new", bare=True)
@example(content='{"question": {"question": []}}', strategy="rewrite", bare=False)
def test_any_text_gives_a_pair_or_a_reason(content, strategy, bare, tmp_path_factory):
    prompt = f"{strategy}/{'completion' if bare else 'chat'}-v1"

    result = parse(exchange(content=content, strategy=strategy, prompt=prompt), question(), "ask")

    path = tmp_path_factory.getbasetemp() / "row.jsonl"
    write_jsonl(path, [result])
    assert read_jsonl(path, type(result))[0] == result


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


KEYS = ["question", "answer", "reason", "Answer", "x", "edits", "change", "into"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.sampled_from(STRATEGIES))
def test_any_json_object_gives_a_pair_or_a_reason(value, strategy):
    result = read(json.dumps(value), strategy=strategy)

    assert isinstance(result, Pair) or result.reason in set(Unread)


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 19_999,
        "question:" * 2_000,
        "{" * 19_999,
        '"' * 19_999,
        "```\n" * 4_000,
        "\\" * 19_999,
        "e" + "\u0301\u0323" * 9_000,
        '{"question": "' + "a " * 9_000 + '?", "answer": "yes"}',
        " " * 19_998 + "x",
        "Reason:a\n" + ":\n" * 9_000,
        json.dumps({**TURNED, "edits": [{"find": "a", "replace": ""}] * 600}),
        json.dumps({**TURNED, "edits": [{"find": "S", "replace": "b"}] * 600}),
    ],
)
def test_hostile_text_is_read_within_a_second(hostile):
    started = time.monotonic()

    read(hostile, prompt="new/completion-v1")
    parse(turn(hostile, prompt="counterfactual/completion-v1"), question(), "ask")

    assert time.monotonic() - started < 1


def test_every_reply_lands_on_one_side_in_its_order():
    replies = [new(json.dumps(GOOD), index=0), new("", index=1), new(json.dumps(GOOD), index=2)]

    parsed = parse_all(replies, [question()], "ask")

    assert [pair.id for pair in parsed.pairs] == ["ask:1:0", "ask:1:2"]
    assert [(reply.index, reply.reason) for reply in parsed.unreadable] == [(1, "empty")]


def test_a_reply_about_a_question_outside_train_is_a_leak():
    with pytest.raises(LeakageError, match=r"ask: 1 source.* 2;"):
        parse_all([exchange(pmid="1"), exchange(pmid="2")], [question(pmid="1")], "ask")


def test_two_replies_to_one_request_are_refused():
    with pytest.raises(DataError, match="1:0"):
        parse_all([exchange(), exchange(key="f" * 64)], [question()], "ask")
