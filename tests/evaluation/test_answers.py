"""A reply says yes, no or maybe, or it says none of them; nothing is made up for it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import ANSWERS
from medslm.data.split import Fold
from medslm.errors import DataError
from medslm.evaluation.answers import predictions, read_answer, unanswered
from medslm.evaluation.score import gold_answers, score
from tests.factories import exchange, question

CHAT, COMPLETION, RECORDED = "answer/chat-v1", "answer/completion-v1", "recorded"
DEV = [question(str(n), answer="no") for n in range(1, 5)]
TEST = [question(str(n), answer=ANSWERS[n % 3]) for n in range(10, 20)]
FOLDS = {"0": Fold((), ("1", "2")), "1": Fold((), ("3", "4"))}


def reply(pmid: str, content: str | None, **overrides: object):
    fields = {"strategy": "answer", "prompt": CHAT, "content": content, **overrides}
    return exchange(pmid, **fields)


def replies(content: str | None = '{"answer": "no"}'):
    return [reply(q.pmid, content) for q in (*DEV, *TEST)]


@pytest.mark.parametrize("prompt", [CHAT, COMPLETION, RECORDED])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_in_json_is_read_after_any_prompt(answer, prompt):
    texts = [
        json.dumps({"answer": answer}),
        json.dumps({"long_answer": "no, maybe, yes", "Answer": answer.upper()}),
        f'```json\n{{"answer": "{answer}."}}\n```',
        f'Here it is:\n```\n{{"answer": " {answer} "}}\n```',
        f"Answer: {answer}",
        f"**Answer:** {answer}\nReason: maybe it is no, maybe it is yes",
    ]

    assert [read_answer(text, prompt=prompt) for text in texts] == [answer] * len(texts)


@pytest.mark.parametrize("prompt", [COMPLETION, RECORDED])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" yes", "yes"),
        ("No.", "no"),
        ("maybe\n\nStudy: 40 adults", "maybe"),
        ("Yes, since no group was worse.", "yes"),
        ('"no"', "no"),
        ("**Maybe**", "maybe"),
        ("(yes)", "yes"),
    ],
)
def test_the_first_word_of_a_completion_is_its_answer(text, answer, prompt):
    assert read_answer(text, prompt=prompt) == answer


@pytest.mark.parametrize(
    "text",
    [
        "No difference was found in men.",
        "yes",
        "Yes.",
        "I think the answer is yes.",
    ],
)
def test_prose_in_reply_to_a_chat_prompt_is_no_answer(text):
    assert read_answer(text, prompt=CHAT) is None


@pytest.mark.parametrize("prompt", [CHAT, COMPLETION, RECORDED])
@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "   ",
        "yesterday",
        "Not really",
        "yes/no",
        "yes-ish",
        "no_answer",
        "unclear",
        "The answer is yes",
        "да",
        "{}",
        '{"answer": null}',
        '{"answer": true}',
        '{"answer": ["yes"]}',
        '{"answer": "yes and no"}',
        '{"answer": "probably"}',
        '{"answer": "yes", "answer": "no"}',
        '{"answer": "yes"',
        '["yes"]',
        "[" * 5000,
        "Answer: unclear",
    ],
)
def test_anything_else_is_no_answer(text, prompt):
    assert read_answer(text, prompt=prompt) is None


@given(st.text(), st.sampled_from([CHAT, COMPLETION, RECORDED]))
def test_any_text_is_an_answer_only_if_it_holds_its_word(text, prompt):
    found = read_answer(text, prompt=prompt)

    assert found is None or found in text.casefold()


def test_every_fold_gets_a_row_per_test_question_and_its_own_dev_questions():
    rows = list(predictions(replies(), FOLDS, DEV, TEST))

    assert [(r.fold, r.pmid) for r in rows if r.split == "dev"] == [
        (0, "1"),
        (0, "2"),
        (1, "3"),
        (1, "4"),
    ]
    for fold in (0, 1):
        of_test = [r.pmid for r in rows if r.split == "test" and r.fold == fold]
        assert of_test == [q.pmid for q in TEST]
    assert {(r.seed, r.answer) for r in rows} == {(0, "no")}


def test_a_reply_has_no_probabilities_and_a_score_without_likelihood():
    rows = list(predictions(replies(), FOLDS, DEV, TEST))

    sheet = score(
        rows,
        variant="local-3-shot",
        gold=gold_answers([*DEV, *TEST]),
        test_pmids=[q.pmid for q in TEST],
        dev_pmids={int(name): fold.dev for name, fold in FOLDS.items()},
    )

    assert all(row.probabilities == {} for row in rows)
    assert (sheet.dev.accuracy, sheet.dev.nll, sheet.test.nll) == (1.0, None, None)
    assert (sheet.test.n, sheet.spread.cells) == (10, 2)


def test_failed_and_unreadable_replies_are_unanswered_wrong_and_counted_by_reason():
    given_up = [
        reply("10", None, finish_reason="content_filter"),
        reply("11", None, finish_reason="length"),
        reply("12", "As a language model I cannot say."),
    ]
    rest = [e for e in replies() if e.pmid not in ("10", "11", "12")]

    rows = {r.pmid: r.answer for r in predictions([*rest, *given_up], FOLDS, DEV, TEST)}

    assert [pmid for pmid, answer in rows.items() if answer is None] == ["10", "11", "12"]
    counts = {"content_filter": 1, "length": 1, "unreadable": 1}
    assert unanswered([*rest, *given_up]) == counts
    assert unanswered(rest) == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda rows: rows[1:], r"1 missing \(1\)", id="one too few"),
        pytest.param(lambda rows: [*rows, rows[0]], r"1 repeated \(1\)", id="one twice"),
        pytest.param(
            lambda rows: [*rows, reply("99", None)], r"1 not in the split \(99\)", id="a stranger"
        ),
        pytest.param(
            lambda rows: [*rows[1:], reply("1", None, strategy="new")],
            "'new', not to 'answer'",
            id="another strategy",
        ),
    ],
)
def test_replies_must_be_all_and_only_those_to_the_held_out_questions(change, told):
    with pytest.raises(DataError, match=told):
        list(predictions(change(replies()), FOLDS, DEV, TEST))
