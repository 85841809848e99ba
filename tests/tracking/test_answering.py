"""A registered model answers a question or a file of them as it was scored, and says which version it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medslm.cli import main
from medslm.data.records import ANSWERS, Prediction
from medslm.evaluation.pooling import pool, rows_of
from medslm.files import read_jsonl, write_text
from medslm.tracking import registry
from tests.tracking.project import MLFLOW_WARNING, MODEL, Project, questions

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNING)


@pytest.fixture(scope="module")
def built(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Version 1 of two cells, champion; version 2 of one other cell, challenger."""
    project = Project(tmp_path_factory.mktemp("answering") / "project").fill()
    project.tune(tiny_llama, cells=2)
    with project.store() as store:
        first = project.register(store, project.track(store)).version
        registry.move_aliases(store, MODEL, champion=first, previous=None, why="promote")
        shutil.rmtree(project.root / "models/new/fold0-seed0")
        shutil.move(
            project.root / "models/new/fold0-seed1", project.root / "models/new/fold0-seed0"
        )
        project.relock().register(store, project.track(store))
    return project


@pytest.fixture
def project(built: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(built.root)
    return built


def ask(*words: str, **more: str) -> Result:
    return CliRunner().invoke(main, ["answer", *words], **more)


def shares(result: Result) -> dict[str, float]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout.splitlines()[-1])["probabilities"])


def test_every_test_question_is_answered_exactly_as_it_was_scored(project, tmp_path):
    """The same questions in the same order, so that batches are the same down to the padding."""
    asked, out = tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    parts = [Path(f"data/split/{part}.jsonl").read_text() for part in ("dev", "test")]
    asked.write_text("".join(parts))

    done = ask("--batch", str(asked), "--out", str(out), "--model", "v1")

    rows = [json.loads(line) for line in out.read_text().splitlines()][8:]
    recorded = pool(rows_of(read_jsonl(Path("data/predictions/new.jsonl"), Prediction), "test"))
    assert done.exit_code == 0, done.output
    assert "16 answers" in done.stdout
    assert [row["pmid"] for row in rows] == [q.pmid for q in questions("test")]
    for row in rows:
        scored = recorded[row["pmid"]]
        given = row["prediction"]
        assert given["probabilities"] == {a: round(scored.probabilities[a], 6) for a in ANSWERS}
        assert given["answer"] == scored.answer
        assert (given["model"], given["version"]) == (MODEL, "1")
        assert row["long_answer"] == "It does."  # what else a line holds is kept
        assert "sections" not in row


def test_one_question_is_answered_in_one_line_and_in_json_and_as_in_a_batch(project, tmp_path):
    question = questions("test")[0]
    write_text(tmp_path / "abstract.txt", f"\n{question.context}\n")
    row = {"question": question.question, "context": question.context, "id": 7}
    write_text(tmp_path / "in.jsonl", json.dumps(row) + "\n")

    said = ask(question.question, "--context", str(tmp_path / "abstract.txt"))
    found = ask(question.question, "--context", "-", "--json", input=question.context)
    ask("--batch", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"))

    [line] = (tmp_path / "out.jsonl").read_text().splitlines()
    body = json.loads(found.stdout.splitlines()[-1])
    assert json.loads(line) == {"id": 7, "question": question.question, "prediction": body}
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=2e-6)
    text = ", ".join(f"{a} {body['probabilities'][a]:.3f}" for a in ANSWERS)
    assert said.stdout.splitlines()[0] == f"{body['answer']} ({text}), {MODEL} version 1"


def test_another_version_answers_otherwise_and_is_named(project):
    question = questions("test")[0]
    words = (question.question, "--context", "-", "--json")

    champion = ask(*words, input=question.context)
    challenger = ask(*words, "--model", "challenger", input=question.context)
    second = ask(*words, "--model", "v2", input=question.context)

    assert shares(champion) != shares(challenger)
    assert shares(second) == shares(challenger)
    assert json.loads(second.stdout.splitlines()[-1])["version"] == "2"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["Is it?"], 2, "give a QUESTION and --context FILE, or --batch"),
        (["--batch", "x.jsonl"], 2, "give a QUESTION"),
        (["Is it?", "--context", "-", "--out", "x"], 2, "give a QUESTION"),
        (["Is it?", "--context", "nowhere.txt"], 10, "nowhere.txt: not a text file"),
        (["Is it?", "--context", "."], 10, "not a text file"),
        ([" ", "--context", "-"], 10, "question is missing or empty"),
        (["Is it?", "--context", "-"], 10, "context is missing or empty"),
        (["--batch", "nowhere.jsonl", "--out", "x"], 10, "nowhere.jsonl: no such file"),
    ],
)
def test_what_is_no_question_is_one_line(project, words, code, said):
    done = ask(*words)

    assert (done.exit_code, said in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no question"),
        ("{", "in.jsonl:1: not JSON"),
        ('{"question": "Is it?", "context": NaN}', "in.jsonl:1: not JSON"),
        ("[]", "in.jsonl:1: expected an object"),
        ('{"question": "Is it?"}', "in.jsonl:1: context is missing"),
        ('{"question": "Is it?", "sections": [{"label": "A"}]}', "in.jsonl:1: sections is missing"),
        ('{"question": 1, "context": "x"}', "in.jsonl:1: question is missing"),
        ('{"question": "a", "context": "x", "prediction": 1}', "has a prediction already"),
        ('{"question": "a", "context": "x"}\n\n', "in.jsonl:2: not JSON"),
    ],
)
def test_a_batch_with_a_line_that_is_no_question_is_refused_and_nothing_written(
    project, tmp_path, text, said
):
    write_text(tmp_path / "in.jsonl", text)

    done = ask("--batch", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"))

    assert done.exit_code == 10
    assert said in done.stderr
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("previous", 51, "no version is previous yet"),
        ("v9", 51, "no version 9"),
        ("best", 10, "neither champion"),
    ],
)
def test_a_version_that_is_not_there_is_named(project, wanted, code, said):
    done = ask("Is it?", "--context", "-", "--model", wanted, input="It is.")

    assert (done.exit_code, said in done.stderr) == (code, True), done.output


def test_versions_are_listed_with_aliases_scores_and_commits(project):
    with project.store() as store:
        store.client.set_model_version_tag(MODEL, "1", "git.commit", "c" * 40)

    done = CliRunner().invoke(main, ["models"])

    name, head, second, first = done.stdout.splitlines()[:4]
    assert name == MODEL
    assert head.split() == [
        *["version", "aliases", "variant", "dev.macro_f1", "test.accuracy", "test.macro_f1"],
        *["fingerprint", "commit"],
    ]
    assert first.split()[:6] == ["1", "champion", "new", "0.600", "0.650", "0.400"]
    assert first.split()[-1] == "c" * 7
    assert second.split()[:3] == ["2", "challenger", "new"]
    assert second.split()[-1] == "-"


def test_the_model_card_is_in_the_package_and_on_mlflows_page(project):
    done = CliRunner().invoke(main, ["models", "--card", "champion"])

    with project.store() as store:
        page = store.client.get_model_version(MODEL, "1").description
    card = done.stdout
    assert card.startswith("# Variant `new`\n")
    assert page.split("\n(cut")[0] in card
    assert "| macro_f1 | 0.6 | 0.4 |" in card
    assert "2 adapters whose probabilities are averaged" in card
    assert "| train | `data/mix/new.jsonl` |" in card
    assert "few &lt;b&gt;dev&lt;/b&gt;" in card
    assert "- `tune.lr`: `0.001`" in card
    assert "not fit for clinical use" in card


def test_a_registry_without_versions_says_what_to_do(tmp_path, monkeypatch):
    empty = Project(tmp_path / "empty").fill()
    empty.lay_empty_database()
    monkeypatch.chdir(empty.root)

    done = CliRunner().invoke(main, ["models"])

    assert done.exit_code == 10
    assert "no version is registered; run `dvc repro`" in done.stderr
