from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medslm.data.records import Exchange, Question
from medslm.files import read_json, read_jsonl, sha256_of, write_jsonl
from tests.factories import question
from tests.teacher.asked import ASK, OPENAI
from tests.teacher.fake_endpoint import Answer, FakeEndpoint, Received, echo, fails, says, serving

STAGE = Path(__file__).parents[2] / "stages" / "ask.py"
CANARY = "sk-canary-5f3a9c"


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving() as running:
        yield running


class Project:
    """A folder with params and a train split in which the stage runs as its own process."""

    def __init__(self, root: Path, endpoint: FakeEndpoint, questions: list[Question]) -> None:
        self.root = root
        self.journal = root / ".work/replies/api/journal.log"
        self.out = root / "replies.jsonl"
        self.params: dict[str, Any] = {
            "teachers": {
                "api": {
                    **OPENAI,
                    "base_url": endpoint.url,
                    "key_env": "OPENAI_API_KEY",
                    "structured": True,
                    "concurrency": 3,
                    "timeout_s": 20,
                    "attempts": 2,
                    "max_failed_share": 0.2,
                }
            },
            "asks": {"mine": {**ASK, "strategy": "new", "per_question": 2}},
        }
        root.mkdir(exist_ok=True)
        write_jsonl(root / "train.jsonl", questions)
        write_jsonl(root / "unlabelled.jsonl", [question("90", answer=None)])

    def start(self, **environ: str) -> subprocess.Popen[str]:
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        inherited = {n: v for n, v in os.environ.items() if n != "DVC_ROOT"}
        files = {
            "train": "train.jsonl",
            "unlabelled": "unlabelled.jsonl",
            "out": "replies.jsonl",
            "metrics": "spend.json",
        }
        flags = ["--ask", "mine", *(f"--{name}={file}" for name, file in files.items())]
        return subprocess.Popen(
            [sys.executable, str(STAGE), *flags],
            cwd=self.root,
            env={**inherited, "OPENAI_API_KEY": CANARY, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **environ: str) -> tuple[int, str]:
        process = self.start(**environ)
        _, said = process.communicate(timeout=60)
        return process.returncode, said


@pytest.fixture
def project(tmp_path: Path, endpoint: FakeEndpoint) -> Project:
    return Project(tmp_path / "a", endpoint, [question(str(n)) for n in range(1, 11)])


def slowly(request: Received, before: int) -> Answer:
    answer = echo(request)
    answer.delay_s = 0.15
    return answer


def seeds(endpoint: FakeEndpoint) -> Counter[int]:
    return Counter(r.body["seed"] for r in endpoint.requests)


def bodies(journal: Path) -> list[str]:
    """Return the questions in the whole bodies that a journal holds, read without our own reader."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    texts = [json.loads(line.split(b" ", 4)[4])["text"] for line in lines if b" body " in line[:14]]
    contents = [json.loads(text)["choices"][0]["message"]["content"] for text in texts]
    return [json.loads(content)["question"] for content in contents]


def wait_for_bodies(journal: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(bodies(journal)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_loses_no_finished_reply_and_ends_in_the_same_bytes(
    project, endpoint, tmp_path
):
    endpoint.respond = slowly
    kills = 0
    for lines in (4, 9, 13):
        process = project.start()
        wait_for_bodies(project.journal, lines)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        done_before = len(bodies(project.journal))
        assert done_before >= lines
        assert not project.out.exists()

    code, said = project.run()

    assert code == 0, said
    asked = seeds(endpoint)
    assert len(asked) == 20
    assert 20 <= asked.total() <= 20 + kills * 3  # at most what was in flight is asked again
    assert len(endpoint.requests) >= 20
    assert len(bodies(project.journal)) == 20

    endpoint.requests.clear()
    undisturbed = Project(tmp_path / "b", endpoint, [question(str(n)) for n in range(1, 11)])
    assert undisturbed.run()[0] == 0
    assert undisturbed.out.read_bytes() == project.out.read_bytes()
    assert len(endpoint.requests) == 20


def test_a_reply_on_the_disk_before_a_kill_is_never_asked_for_again(project, endpoint):
    endpoint.respond = slowly
    process = project.start()
    wait_for_bodies(project.journal, 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    texts = set(bodies(project.journal))
    endpoint.requests.clear()

    assert project.run()[0] == 0

    again = {f"Is seed {seed} the one?" for seed in seeds(endpoint)}
    assert len(texts) >= 5
    assert again.isdisjoint(texts)
    assert len(again | texts) == 20


def test_a_second_start_exits_at_once_and_sends_nothing(project, endpoint):
    tried = threading.Event()  # however slow the second start: the first is still at work

    def held_back(request: Received, before: int) -> Answer:
        if before > 0:
            tried.wait(timeout=60)
        return echo(request)

    endpoint.respond = held_back
    first = project.start()
    wait_for_bodies(project.journal, 1)

    code, said = project.run()
    tried.set()

    assert code == 41
    assert f"process {first.pid}" in said
    assert first.wait(timeout=60) == 0
    first.communicate()
    assert len(endpoint.requests) == 20


def test_the_unlabelled_questions_are_another_source(project, endpoint):
    change = {"strategy": "pseudo-label", "questions": "unlabelled", "per_question": 1}
    project.params["asks"]["mine"].update(change)

    code, said = project.run()

    assert code == 0, said
    assert [row.pmid for row in read_jsonl(project.out, Exchange)] == ["90"]
    assert read_json(project.root / "spend.json")["requests"] == 1


def test_a_rerun_sends_nothing_and_a_changed_temperature_sends_all(project, endpoint):
    assert project.run()[0] == 0
    before = project.out.read_bytes()

    code, said = project.run(OPENAI_API_KEY="")  # with nothing to ask there is no need for a key
    assert (code, len(endpoint.requests)) == (0, 20)
    assert "0 asked, 20 reused, failed: none" in said
    assert project.out.read_bytes() == before

    project.params["teachers"]["api"]["temperature"] = 0.8
    assert project.run()[0] == 0
    assert len(endpoint.requests) == 40
    assert project.out.read_bytes() != before


def test_the_output_is_in_request_order_whatever_the_server_does(project, endpoint):
    def shuffled(request: Received, before: int) -> Answer:
        answer = echo(request)
        answer.delay_s = (before * 7 % 5) / 50
        return answer

    endpoint.respond = shuffled
    assert project.run(PYTHONHASHSEED="1")[0] == 0

    exchanges = read_jsonl(project.out, Exchange)
    assert [(e.pmid, e.index) for e in exchanges] == [
        (str(n), i) for n in range(1, 11) for i in (0, 1)
    ]
    assert {(e.teacher, e.prompt, e.finish_reason) for e in exchanges} == {
        ("api", "new/chat-v1", "stop")
    }


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (fails(401), 20),
        (fails(429, code="insufficient_quota"), 21),
        (fails(503), 22),
        (fails(400), 23),
    ],
)
def test_each_trouble_has_its_exit_code_and_one_line(project, endpoint, answer, code):
    endpoint.respond = lambda *_: answer

    found, said = project.run()

    assert found == code
    assert said.splitlines()[-1].startswith(f"error[{code}]: teacher api")
    assert "Traceback" not in said
    assert json.loads((project.root / ".work/status.json").read_text())["exit_code"] == code
    assert not project.out.exists()


def test_paid_replies_survive_a_trouble_and_the_next_run_asks_for_the_rest(project, endpoint):
    endpoint.respond = lambda request, n: fails(401) if n >= 8 else echo(request)
    assert project.run()[0] == 20
    held = len(bodies(project.journal))
    endpoint.respond = lambda request, _: echo(request)
    endpoint.requests.clear()

    assert project.run()[0] == 0

    assert held == 8
    assert len(endpoint.requests) == 12


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, json.dumps({"error": {"message": f"bad key {CANARY}"}}).encode()),
        Answer(500, json.dumps({"error": {"message": f"bad key {CANARY}"}}).encode()),
        Answer(400, json.dumps({"error": {"message": f"bad key {CANARY}"}}).encode()),
        Answer(200, f"bad key {CANARY}".encode()),
        says(f"your key is {CANARY}"),
    ],
)
def test_the_key_is_nowhere_after_any_answer(project, endpoint, answer):
    endpoint.respond = lambda *_: answer

    _, said = project.run(OPENAI_LOG="debug")

    files = [p for p in project.root.rglob("*") if p.is_file()]
    assert project.journal in files
    assert CANARY not in said
    assert [p for p in files if CANARY.encode() in p.read_bytes()] == []
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {CANARY}"


def test_a_key_that_cannot_be_sent_is_not_shown(project, endpoint):
    code, said = project.run(OPENAI_API_KEY=f"{CANARY}\nx")

    assert code == 20
    assert CANARY not in said
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("questions", "complaint"),
    [
        ([], "train split is empty"),
        ([question("4"), question("4")], "PMID 4 is in the train split"),
    ],
)
def test_an_unusable_train_split_is_refused(tmp_path, endpoint, questions, complaint):
    code, said = Project(tmp_path / "p", endpoint, questions).run()

    assert code == 10
    assert complaint in said
    assert endpoint.requests == []


def test_an_unknown_teacher_is_named(project, endpoint):
    project.params["asks"]["mine"]["teacher"] = "nobody"

    code, said = project.run()

    assert code == 2
    assert "teachers.nobody: there is no such entry" in said


def test_recorded_replies_come_through_with_the_missing_ones_counted(project, endpoint):
    rows = [
        {"pmid": str(n), "strategy": "new", "index": i, "reply": {"question": f"Is it {n}.{i}?"}}
        for n in range(1, 11)
        for i in (0, 1)
    ][:-2]
    recording = project.root / "recorded.jsonl"
    recording.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    project.params["teachers"]["api"] = {
        "backend": "recorded",
        "path": "recorded.jsonl",
        "sha256": sha256_of(recording),
        "max_failed_share": 0.1,
    }

    code, said = project.run()

    assert code == 0
    assert "20 asked, 0 reused, failed: missing 2" in said
    exchanges = read_jsonl(project.out, Exchange)
    assert [e.content is None for e in exchanges] == [False] * 18 + [True] * 2
    assert exchanges[0].content == '{"question": "Is it 1.0?"}'


def test_the_stage_starts_without_torch_or_openai():
    code = f"import runpy, sys; runpy.run_path({str(STAGE)!r}); print(sorted(sys.modules))"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    heavy = ("torch", "transformers", "openai", "numpy", "pandas", "mlflow", "datasets", "dvc")
    assert "'click'" in loaded
    assert [name for name in heavy if f"'{name}'" in loaded] == []
