from __future__ import annotations

import json
from pathlib import Path

import pytest

from medslm.errors import DataError, IntegrityError
from medslm.files import sha256_of
from medslm.teacher.recorded import Recorded, read_recorded
from tests.factories import question
from tests.teacher.asked import answers_of, requests

LINE = {"pmid": "1", "strategy": "rewrite", "index": 0, "reply": {"question": "Is it?", "a": [1]}}


def recording(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> Recorded:
    return read_recorded(path, sha256_of(path))


def ask_for(teacher: Recorded, pmids: list[str]):
    return requests(
        [question(p) for p in pmids], prompt=None, per_question=1, identity=teacher.identity
    )


def test_a_recorded_object_becomes_canonical_json_and_text_stays_text(tmp_path):
    text = {**LINE, "pmid": "2", "reply": "Question: Is it?"}
    teacher = read(recording(tmp_path / "r.jsonl", LINE, text))

    replies = answers_of(teacher, ask_for(teacher, ["1", "2"]))

    assert [r.content for r in replies] == ['{"a": [1], "question": "Is it?"}', "Question: Is it?"]
    assert {r.finish_reason for r in replies} == {"stop"}


def test_a_request_without_a_recording_fails_by_name(tmp_path):
    teacher = read(recording(tmp_path / "r.jsonl", LINE))

    (reply,) = answers_of(teacher, ask_for(teacher, ["9"]))

    assert (reply.content, reply.finish_reason) == (None, "missing")


def test_only_a_changed_recording_changes_its_key(tmp_path):
    other = {**LINE, "pmid": "2"}
    before = ask_for(read(recording(tmp_path / "a", LINE, other)), ["1", "2"])
    changed = {**LINE, "reply": {"question": "Was it?"}}

    after = ask_for(read(recording(tmp_path / "b", changed, other)), ["1", "2"])

    assert after[0].key != before[0].key
    assert after[1].key == before[1].key


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (LINE, "r.jsonl:2: a second reply for PMID 1, rewrite, index 0"),
        ({**LINE, "pmid": 2}, "r.jsonl:2: not a Recording: pmid"),
        ({**LINE, "pmid": "2", "reply": None}, "r.jsonl:2: not a Recording: reply"),
        ({**LINE, "pmid": "2", "extra": 1}, "r.jsonl:2: not a Recording: extra"),
        ({**LINE, "pmid": "2", "reply": {"x": float("nan")}}, "r.jsonl:2: "),
    ],
)
def test_an_unusable_line_is_named(tmp_path, second, complaint):
    with pytest.raises(DataError, match=complaint):
        read(recording(tmp_path / "r.jsonl", LINE, second))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file"):
        read_recorded(tmp_path / "nowhere", "0" * 64)


def test_a_file_that_changed_since_its_hash_was_pinned_is_refused(tmp_path):
    path = recording(tmp_path / "r.jsonl", LINE)
    pinned = sha256_of(path)
    recording(path, {**LINE, "pmid": "2"})

    with pytest.raises(IntegrityError, match=pinned):
        read_recorded(path, pinned)
