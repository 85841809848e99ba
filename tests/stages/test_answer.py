"""answer, run as DVC runs it: the held-out questions, each once, after examples from train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from medslm.data.records import ANSWERS, Exchange, Question
from medslm.evaluation.answers import unanswered
from medslm.files import read_jsonl, sha256_of, write_jsonl
from tests.factories import question
from tests.teacher.fake_endpoint import Answer, FakeEndpoint, Received, says, serving

STAGE = Path(__file__).parents[2] / "stages" / "answer.py"
TRAIN = [question(str(n), answer=ANSWERS[n % 3]) for n in range(1, 13)]
DEV = [question(str(n), answer="no") for n in range(100, 104)]
TEST = [question(str(n), answer="maybe") for n in range(200, 208)]
FLAGS = {
    "--name": "few-shot",
    "--train": "train.jsonl",
    "--dev": "dev.jsonl",
    "--test": "test.jsonl",
    "--out": "answers.jsonl",
    "--metrics": "spend.json",
}


def maybe(request: Received, before: int) -> Answer:
    return says('{"answer": "maybe"}')


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with serving() as running:
        running.respond = maybe
        yield running


class Project:
    """A folder with params and a split, and the stage as a process of its own in it."""

    def __init__(self, root: Path, teacher: dict[str, Any]) -> None:
        self.root = root
        self.entry: dict[str, Any] = {"teacher": "api", "shots": 3, "prompt": "v1", "seed": 0}
        self.teacher = teacher
        self.split(TRAIN, DEV, TEST)

    def split(self, train: Sequence[Question], dev: Sequence[Question], test: Sequence[Question]):
        for name, rows in (("train", train), ("dev", dev), ("test", test)):
            write_jsonl(self.root / f"{name}.jsonl", rows)

    def run(self, **environ: str) -> subprocess.CompletedProcess[str]:
        body = {"teachers": {"api": self.teacher}, "answers": {"few-shot": self.entry}}
        (self.root / "params.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
        inherited = {n: v for n, v in os.environ.items() if n != "DVC_ROOT"}
        words = [word for flag in FLAGS.items() for word in flag]
        return subprocess.run(
            [sys.executable, str(STAGE), *words],
            cwd=self.root,
            env={**inherited, "OPENAI_API_KEY": "sk-test-5f3a9c", **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def exchanges(self) -> list[Exchange]:
        return read_jsonl(self.root / "answers.jsonl", Exchange)


@pytest.fixture
def project(tmp_path: Path, endpoint: FakeEndpoint) -> Project:
    teacher = {
        "backend": "openai",
        "base_url": endpoint.url,
        "key_env": "OPENAI_API_KEY",
        "model": "m",
        "accept_models": [],
        "temperature": 0.0,
        "top_p": None,
        "max_tokens": 80,
        "structured": True,
        "mode": "sync",
        "batch_wait_s": 1,
        "price": {"input": 1.0, "cached": 0.5, "output": 2.0},
        "max_usd": 1.0,
        "concurrency": 3,
        "rpm": None,
        "tpm": None,
        "timeout_s": 20,
        "attempts": 2,
        "backoff_s": 0.01,
        "max_wait_s": 1,
        "max_failed_share": 0.3,
    }
    return Project(tmp_path, teacher)


def turns(request: Received) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in request.body["messages"]]


def test_every_held_out_question_is_asked_once_and_written_in_order(project, endpoint):
    done = project.run()

    assert done.returncode == 0, done.stderr
    assert "12 asked, 0 reused, failed: none" in done.stderr
    assert [e.pmid for e in project.exchanges()] == [q.pmid for q in (*DEV, *TEST)]
    assert {(e.strategy, e.teacher, e.prompt, e.content) for e in project.exchanges()} == {
        ("answer", "api", "answer/chat-v1", '{"answer": "maybe"}')
    }
    assert len(endpoint.requests) == 12
    spent = json.loads((project.root / "spend.json").read_text())
    assert spent["requests"] == spent["attempts"] == 12
    assert spent["usd"] == pytest.approx(12 * (7 * 1.0 + 3 * 2.0) / 1e6, abs=1e-6)


def test_all_see_the_same_examples_of_every_answer_before_their_own_question(project, endpoint):
    project.run()

    heads = {json.dumps(turns(request)[:-1]) for request in endpoint.requests}
    assert len(heads) == 1
    shown = [text for role, text in json.loads(heads.pop()) if role == "assistant"]
    assert sorted(json.loads(text)["answer"] for text in shown) == ["maybe", "no", "yes"]
    asked = {turns(request)[-1][1] for request in endpoint.requests}
    assert len(asked) == 12
    train, held_out = [{q.question for q in part} for part in (TRAIN, [*DEV, *TEST])]
    for request in endpoint.requests:
        before = " ".join(text for _, text in turns(request)[:-1])
        assert sum(text in before for text in train) == 3
        assert not any(text in before for text in held_out)


def test_no_gold_answer_and_no_conclusion_of_a_held_out_question_is_sent(project, endpoint):
    project.run()

    sent = json.dumps([request.body for request in endpoint.requests])
    assert all(q.question in sent for q in (*DEV, *TEST))
    assert not any(q.long_answer in sent for q in (*DEV, *TEST))
    for request in endpoint.requests:
        assert '"answer"' not in turns(request)[-1][1]


def test_without_examples_only_the_question_is_sent(project, endpoint):
    project.entry["shots"] = 0
    assert project.run().returncode == 0

    assert {len(turns(request)) for request in endpoint.requests} == {2}


@pytest.mark.parametrize(("knob", "value"), [("shots", 4), ("seed", 1)])
def test_a_rerun_sends_nothing_and_other_examples_are_asked_anew(project, endpoint, knob, value):
    assert project.run().returncode == 0
    before = (project.root / "answers.jsonl").read_bytes()

    assert "0 asked, 12 reused" in project.run(OPENAI_API_KEY="").stderr
    assert (project.root / "answers.jsonl").read_bytes() == before
    assert len(endpoint.requests) == 12

    project.entry[knob] = value
    assert "12 asked, 0 reused" in project.run().stderr
    assert len(endpoint.requests) == 24


def test_refused_requests_are_written_as_unanswered(project, endpoint):
    refused = says(None, finish_reason="content_filter")
    endpoint.respond = lambda request, n: (
        refused if TEST[0].question in turns(request)[-1][1] else maybe(request, n)
    )

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert unanswered(project.exchanges()) == {"content_filter": 1}


def test_a_test_question_in_train_stops_before_anything_is_sent(project, endpoint):
    project.split([*TRAIN, TEST[3]], DEV, TEST)

    done = project.run()

    assert done.returncode == 12
    assert "1 test question(s) are among those to show" in done.stderr
    assert endpoint.requests == []


def test_what_another_fold_holds_out_is_asked_and_not_shown(project, endpoint):
    project.split(TRAIN, [*DEV, *TRAIN[:9]], TEST)

    assert project.run().returncode == 0

    assert len(endpoint.requests) == 21
    shown = " ".join(text for _, text in turns(endpoint.requests[0])[:-1])
    assert [q.pmid for q in TRAIN if q.question in shown] == ["10", "11", "12"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"shots": 13}, "13 worked examples are asked for and 12 questions can be shown"),
        ({"shots": -1}, "answers.few-shot.shots"),
        ({"teacher": "nobody"}, "teachers.nobody: there is no such entry"),
        ({"prompt": "v99"}, "there is no prompt answer/chat-v99"),
        ({"more": 1}, "answers.few-shot.more: Extra inputs"),
    ],
)
def test_bad_knobs_are_one_line_and_an_exit_code(project, endpoint, entry, told):
    project.entry |= entry

    done = project.run()

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert endpoint.requests == []
    assert not (project.root / "answers.jsonl").exists()


def test_recorded_answers_come_through_and_missing_ones_are_unanswered(project):
    recording = project.root / "recorded.jsonl"
    rows = [
        {"pmid": q.pmid, "strategy": "answer", "index": 0, "reply": {"answer": "no"}}
        for q in (*DEV, *TEST)
    ]
    recording.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]), encoding="utf-8")
    project.teacher = {
        "backend": "recorded",
        "path": "recorded.jsonl",
        "sha256": sha256_of(recording),
        "max_failed_share": 0.1,
    }

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert unanswered(project.exchanges()) == {"missing": 1}
    assert json.loads((project.root / "spend.json").read_text())["usd"] == 0


def test_a_model_in_this_process_answers_every_question_in_one_word(project, tiny_llama):
    project.teacher = {
        "backend": "local",
        "model": str(tiny_llama),
        "revision": None,
        "dtype": "float32",
        "style": "completion",
        "constrained": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 8,
        "batch_size": 5,
        "max_failed_share": 0.5,
    }

    done = project.run()

    assert done.returncode == 0, done.stderr
    assert len(project.exchanges()) == 12
    whole = [e for e in project.exchanges() if e.content is not None]
    assert whole
    assert unanswered(whole) == {}  # held to the grammar, noise too is an answer


def test_the_stage_starts_without_torch_or_openai():
    code = f"import runpy, sys; runpy.run_path({str(STAGE)!r}); print(sorted(sys.modules))"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    heavy = ("torch", "transformers", "openai", "numpy", "pandas", "mlflow", "datasets", "dvc")
    assert "'click'" in loaded
    assert [name for name in heavy if f"'{name}'" in loaded] == []
