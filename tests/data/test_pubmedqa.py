from __future__ import annotations

import json

import pytest

from medslm.data.pubmedqa import read_questions
from medslm.data.records import Passage
from medslm.errors import DataError

ENTRY = {
    "QUESTION": "Does it help?",
    "CONTEXTS": ["We tried.", "It helped 7 of 9."],
    "LABELS": ["METHODS", "RESULTS"],
    "MESHES": ["Humans"],
    "YEAR": None,
    "reasoning_required_pred": "yes",
    "reasoning_free_pred": "yes",
    "final_decision": "yes",
    "LONG_ANSWER": "It helped most.",
}
ROW = {
    "pubid": 12,
    "question": "Does it help?",
    "context": {"contexts": ["We tried."], "labels": ["METHODS"], "meshes": []},
    "long_answer": "It helped most.",
    "final_decision": "yes",
}


def authors_file(tmp_path, **changes):
    entry = {k: v for k, v in {**ENTRY, **changes}.items() if v is not ...}
    path = tmp_path / "pqal.json"
    path.write_text(json.dumps({"0012": entry}))
    return path


def columns_file(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_authors_layout_is_read_with_pmids_as_text(tmp_path):
    [q] = read_questions(authors_file(tmp_path))

    assert q.pmid == "0012"
    assert q.sections == (Passage("METHODS", "We tried."), Passage("RESULTS", "It helped 7 of 9."))
    assert (q.question, q.long_answer, q.answer) == ("Does it help?", "It helped most.", "yes")
    assert q.context == "We tried.\nIt helped 7 of 9."


def test_unlabelled_and_artificial_questions_are_read(tmp_path):
    [unlabelled] = read_questions(authors_file(tmp_path, final_decision=..., YEAR=...))
    [bare] = read_questions(authors_file(tmp_path, LABELS=..., MESHES=...))

    assert unlabelled.answer is None
    assert [p.label for p in bare.sections] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"final_decision": "perhaps"}, "'perhaps' is not one of yes, no, maybe"),
        ({"QUESTION": ...}, "QUESTION is missing"),
        ({"LONG_ANSWER": ...}, "LONG_ANSWER is missing"),
        ({"CONTEXTS": []}, "at least one passage"),
        ({"CONTEXTS": "text"}, "expected a list"),
        ({"CONTEXTS": ["  ", "x"]}, "contexts: is empty"),
        ({"LABELS": ["METHODS"]}, "expected one per passage"),
        ({"QUESTION": 7}, "expected text, found int"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_b02_a_wrong_field_is_named_with_its_pmid(tmp_path, changes, complaint):
    with pytest.raises(DataError, match=rf"PMID 0012: .*{complaint}"):
        read_questions(authors_file(tmp_path, **changes))


@pytest.mark.parametrize("body", ["[]", "{}", '{"1": []}', '{"x1": {}}', "3", ""])
def test_a_file_that_is_not_pubmedqa_is_refused(tmp_path, body):
    path = tmp_path / "other.json"
    path.write_text(body)

    with pytest.raises(DataError, match=r"other\.json"):
        read_questions(path)


def test_a_word_for_a_pmid_is_refused(tmp_path):
    path = tmp_path / "pqal.json"
    path.write_text(json.dumps({"abc": ENTRY}))

    with pytest.raises(DataError, match="not a PMID: 'abc'"):
        read_questions(path)


def test_hugging_face_columns_are_read_from_json_lines_and_parquet(tmp_path):
    import datasets

    other = {**ROW, "pubid": 7, "final_decision": "maybe"}
    datasets.disable_progress_bars()
    datasets.Dataset.from_list([ROW, other]).to_parquet(str(tmp_path / "rows.parquet"))

    from_lines = read_questions(columns_file(tmp_path, ROW, other))
    from_parquet = read_questions(tmp_path / "rows.parquet")

    assert [(q.pmid, q.answer) for q in from_lines] == [("12", "yes"), ("7", "maybe")]
    assert from_parquet == from_lines


def test_b05_a_repeated_row_counts_once_and_a_contradicting_one_is_refused(tmp_path):
    assert len(read_questions(columns_file(tmp_path, ROW, ROW))) == 1

    with pytest.raises(DataError, match="PMID 12 stands twice"):
        read_questions(columns_file(tmp_path, ROW, {**ROW, "final_decision": "no"}))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "x.parquet").write_text("not parquet")

    with pytest.raises(DataError, match="end in"):
        read_questions(tmp_path / "x.csv")
    with pytest.raises(DataError, match="not a parquet file"):
        read_questions(tmp_path / "x.parquet")
