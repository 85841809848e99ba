from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.data.records import Passage, Question
from medslm.errors import DataError, IntegrityError, LockHeld
from medslm.files import (
    lock,
    read_json,
    read_jsonl,
    require_sha256,
    sha256_of,
    write_json,
    write_jsonl,
    writing,
    writing_folder,
)
from tests.factories import question


@given(st.text(), st.text())
def test_any_text_survives_the_round_trip_on_one_line(tmp_path_factory, text, label):
    path = tmp_path_factory.mktemp("round") / "q.jsonl"
    row = question(question=text, sections=(Passage(label, text),))

    write_jsonl(path, [row, row])

    assert read_jsonl(path, Question) == [row, row]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not a Question"),
        ('{"pmid": 1}', "pmid"),
        ("[]", "not a Question"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, complaint):
    path = tmp_path / "q.jsonl"
    write_jsonl(path, [question()])
    with path.open("a") as stream:
        stream.write(line + "\n")

    with pytest.raises(DataError, match=rf"q\.jsonl:2: .*{complaint}"):
        read_jsonl(path, Question)


def test_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "q.jsonl"
    write_jsonl(path, [question()])
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "extra": 1}) + "\n")

    with pytest.raises(DataError, match="extra"):
        read_jsonl(path, Question)


def test_b04_a_line_of_two_megabytes_is_refused(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("x" * (2 << 20))

    with pytest.raises(DataError, match="longer than"):
        read_jsonl(path, Question)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}', "{", "[" * 100_000, "\ud800"])
def test_json_that_python_would_accept_or_choke_on_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(DataError, match=r"x\.json"):
        read_json(path)


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, 1)

    def fail() -> None:
        with writing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        fail()
    assert read_json(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out"
    with writing_folder(path) as partial:
        (partial / "a").write_text("1")

    def fail() -> None:
        with writing_folder(path) as partial:
            (partial / "b").write_text("2")
            raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in path.iterdir()] == ["a"]

    with writing_folder(path) as partial:
        (partial / "b").write_text("2")
    assert [p.name for p in path.iterdir()] == ["b"]


def test_a_wrong_hash_names_both(tmp_path):
    path = tmp_path / "x"
    path.write_text("1")
    require_sha256(path, sha256_of(path))

    with pytest.raises(IntegrityError, match=f"{sha256_of(path)}.*{'0' * 64}"):
        require_sha256(path, "0" * 64)


def test_a_lock_that_goes_within_a_moment_is_waited_for(tmp_path):
    path = tmp_path / "x.lock"
    with path.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        release = threading.Timer(0.1, fcntl.flock, (stream, fcntl.LOCK_UN))
        release.start()

        with lock(path, "training"):
            held = path.read_text()
        release.join()

    assert held == f"{os.getpid()}\n"


def test_a_lock_held_by_another_process_names_its_pid_and_goes_with_it(tmp_path):
    path = tmp_path / "x.lock"
    code = (
        "import sys, time; from pathlib import Path; from medslm.files import lock\n"
        "with lock(Path(sys.argv[1]), 'x'):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=f"process {holder.pid} "), lock(path, "training"):
            pass
        holder.kill()
        holder.wait()

    with lock(path, "training"):
        pass


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read_jsonl(Path("nowhere.jsonl"), Question)


_READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))
from pathlib import Path
from medslm.data.records import Question
from medslm.errors import DataError
from medslm.files import read_jsonl
try:
    read_jsonl(Path(sys.argv[1]), Question)
except DataError as exc:
    print(exc)
"""


def test_b04_a_line_of_200_megabytes_is_refused_within_500_megabytes_of_memory(tmp_path):
    path = tmp_path / "q.jsonl"
    with path.open("wb") as stream:
        stream.truncate(200 << 20)

    done = subprocess.run(
        [sys.executable, "-c", _READ, path], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "q.jsonl:1: line is longer than" in done.stdout
