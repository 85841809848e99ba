"""Two commits of a real git and DVC repository, compared without checking anything out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from medslm.cli import main
from medslm.data.records import Dropped
from medslm.errors import DataError, IntegrityError
from medslm.evaluation.changes import Changes, Setting, changes, settings
from medslm.evaluation.commits import compare_commits, require_all
from medslm.evaluation.commits_text import commits_text
from medslm.evaluation.history import Revision, revision
from medslm.files import write_json, write_jsonl, write_text
from tests.evaluation.worlds import answers_of, sheet, studies
from tests.factories import pair

SPLIT = {"train": studies(2000, 10), "dev": studies(3000, 40), "test": studies(5000, 80)}
PARAMS = {
    "asks": {"local-new": {"teacher": "local", "per_question": 2}},
    "answers": {},
    "variants": {"none": [], "combined": ["local-new"]},
    "tune": {"lr": 0.001, "layers": "top-6"},
    "compare": {"metric": "dev.macro_f1", "baselines": ["majority"]},
}
OUTS = [
    *(f"data/split/{part}.jsonl" for part in SPLIT),
    *(f"data/predictions/{name}.jsonl" for name in ("majority", "none", "combined", "longer")),
    "data/checked/local-new",
]


class Project:
    """A pipeline of one stage that copies what each test says its stages made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params = dict(PARAMS)
        self.parts = SPLIT
        self.run("git", "init", "-q", "-b", "main")
        self.run(sys.executable, "-m", "dvc", "init", "-q")
        write_text(root / ".gitignore", "/made\n")
        write_text(
            root / "src/copy.py",
            "import shutil\nshutil.copytree('made', '.', dirs_exist_ok=True)\n",
        )

    def run(self, *command: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_"))}
        site = {"DVC_SITE_CACHE_DIR": str(self.root / ".dvc/tmp/site"), "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            command, cwd=self.root, env={**kept, **site}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def commit(self, message: str) -> Revision:
        """Run the pipeline and commit it."""
        outs = [out for out in OUTS if (self.root / "made" / out).exists()]
        stage = {"cmd": "python src/copy.py", "deps": ["src/copy.py", "made"], "outs": outs}
        write_text(self.root / "dvc.yaml", yaml.safe_dump({"stages": {"all": stage}}))
        write_text(self.root / "params.yaml", yaml.safe_dump(self.params, sort_keys=False))
        self.run(sys.executable, "-m", "dvc", "repro", "-q")
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        self.run("git", *author, "add", "--all")
        self.run("git", *author, "commit", "-q", "-m", message)
        return revision(self.root, "HEAD")

    def models(self, **strengths: float) -> None:
        """Let these models answer as well as their strengths say."""
        for name, strength in strengths.items():
            rows = [
                row
                for split in ("dev", "test")
                for row in answers_of(self.parts[split], split=split, strength=strength)
            ]
            write_jsonl(self.root / f"made/data/predictions/{name}.jsonl", rows)
            record = sheet(name, dev=strength, test=strength)
            write_json(
                self.root / f"metrics/score/{name}.json",
                {"test": {m: getattr(record.test, m) for m in ("accuracy", "macro_f1", "nll")}},
            )

    def split(self, **parts: list) -> None:  # type: ignore[type-arg]  # of questions
        self.parts = {**SPLIT, **parts}
        for part, questions in self.parts.items():
            write_jsonl(self.root / f"made/data/split/{part}.jsonl", questions)

    def pairs(self, kept: list, dropped: list) -> None:  # type: ignore[type-arg]  # of records
        write_jsonl(self.root / "made/data/checked/local-new/kept.jsonl", kept)
        write_jsonl(self.root / "made/data/checked/local-new/dropped.jsonl", dropped)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Three commits: a start, better data, and another split with a variant more."""
    project = Project(tmp_path_factory.mktemp("story"))
    project.split()
    project.models(majority=0.05, none=0.25, combined=0.3)
    project.pairs([pair("1"), pair("2"), pair("3")], [Dropped(pair("4"), ("too_short",))])
    write_json(project.root / "metrics/compare.json", {"chosen": "none"})
    first = project.commit("start")

    project.models(combined=0.9)
    other = pair("2", question="Is a wholly different question asked here now?")
    project.pairs([pair("1"), other, pair("4")], [Dropped(pair("3"), ("refusal", "too_long"))])
    project.params = {**PARAMS, "tune": {"lr": 0.002, "layers": "top-6", "r": 8}}
    write_json(project.root / "metrics/compare.json", {"chosen": "combined"})
    write_text(
        project.root / "src/copy.py",
        "import shutil  # as before\nshutil.copytree('made', '.', dirs_exist_ok=True)\n",
    )
    second = project.commit("stricter rules")

    project.split(test=[*SPLIT["test"][1:], *studies(7000, 1)])
    project.models(majority=0.05, none=0.4, longer=0.5)
    project.params = {**project.params, "variants": {"none": [], "longer": []}}
    third = project.commit("another split")
    return project, first, second, third


def test_the_same_questions_are_paired_and_what_did_not_change_is_not_tested(story):
    _, first, second, _ = story

    found = compare_commits(first, second)

    assert (found.before.chosen, found.after.chosen) == ("none", "combined")
    assert (found.before.subject, found.after.subject) == ("start", "stricter rules")
    assert found.unchanged == ["majority", "none"]
    after, before = (
        f"combined at {second.name}",
        (f"none at {first.name}", f"combined at {first.name}"),
    )
    # what was chosen then and now, and every model that answers differently
    assert [(d.one, d.other, d.split, d.n) for d in found.differences] == [
        *((after, other, "test", 80) for other in before),
        *((after, other, "dev", 40) for other in before),
    ]
    assert found.differences[0].accuracy > 0.2
    assert found.differences[0].is_shown
    assert [(s.name, s.before["accuracy"], s.after["accuracy"]) for s in found.scores] == [
        ("combined", sheet("x", test=0.3).test.accuracy, sheet("x", test=0.9).test.accuracy)
    ]


def test_settings_pairs_and_code_that_changed_are_listed(story):
    _, first, second, _ = story

    found = compare_commits(first, second)

    assert found.settings == [Setting("tune.lr", "0.001", "0.002"), Setting("tune.r", None, "8")]
    [ask] = found.asks
    assert ask.ask == "local-new"
    assert ask.kept == Changes(
        ("local-rewrite:4:0",), ("local-rewrite:3:0",), ("local-rewrite:2:0",)
    )
    assert ask.reasons == {"refusal": 1, "too_long": 1}
    assert found.code == ["src/copy.py"]
    assert (found.questions, found.notes, found.missing) == ({}, [], [])


def test_a_commit_does_not_differ_from_itself(story):
    _, first, _, _ = story

    found = compare_commits(first, first)

    assert found.unchanged == ["majority", "none", "combined"]
    assert not any([found.differences, found.settings, found.asks, found.code, found.notes])
    assert "Settings" not in commits_text(found)


def test_other_test_questions_are_never_compared_and_models_of_one_commit_are_named(story):
    _, _, second, third = story

    found = compare_commits(second, third)

    assert {d.split for d in found.differences} == {"dev"}
    assert found.scores == []
    assert "->" not in commits_text(found).split("Settings")[0]
    assert found.questions == {"test": Changes(("7000",), ("5000",), ())}
    assert any("cannot be compared" in note for note in found.notes)
    assert f"combined: only in {second.name}" in found.notes
    assert f"longer: only in {third.name}" in found.notes


def test_the_text_names_the_first_few_and_all_when_asked(story):
    _, first, second, _ = story
    found = compare_commits(first, second)._replace(code=[f"src/{i}.py" for i in range(9)])

    text = commits_text(found)

    assert f"combined at {second.name} beats combined at {first.name} by " in text
    assert "tune.r: - -> 8" in text
    assert (
        "kept pairs of local-new: 1 appeared, 1 vanished, 1 changed (now dropped: refusal 1" in text
    )
    assert "src/4.py and 4 more" in text
    assert "src/8.py" in commits_text(found, whole=True)


def test_an_escape_sequence_in_a_commit_or_a_setting_does_not_reach_the_terminal(story):
    _, first, second, _ = story
    found = compare_commits(first, second)
    loud = "\x1b]0;title\x07\x1b[31mred"

    text = commits_text(
        found._replace(
            before=found.before._replace(subject=loud), settings=[Setting("a", loud, "\x9b")]
        )
    )

    assert "red" in text
    assert not {"\x1b", "\x07", "\x9b"} & set(text)


def test_pairs_that_gained_a_field_since_are_still_the_same_pairs(story, tmp_path):
    project, *_ = story
    later = Project(tmp_path)
    for path in OUTS:
        source = project.root / "made" / path
        if source.is_dir():
            shutil.copytree(source, tmp_path / "made" / path)
        elif source.is_file():
            write_text(tmp_path / "made" / path, source.read_text())
    before = later.commit("before")
    kept = tmp_path / "made/data/checked/local-new/kept.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    write_text(kept, "".join(json.dumps({**row, "verified": True}) + "\n" for row in rows))

    assert compare_commits(before, later.commit("a field more")).asks == []


def test_the_verb_prints_it_and_changes_no_file(story, monkeypatch):
    project, first, second, _ = story
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("DVC_ROOT")

    done = CliRunner().invoke(main, ["compare", "HEAD~2", "HEAD~1"])

    assert done.exit_code == 0, done.stderr
    assert f"from {first.name}  start; chosen: none" in done.stdout
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    assert status.stdout == ""
    head = subprocess.run(["git", "rev-parse", "HEAD~1"], capture_output=True, text=True)
    assert head.stdout.strip() == second.commit


def test_one_revision_is_compared_with_the_working_tree(story, monkeypatch):
    project, _, _, third = story
    monkeypatch.chdir(project.root)

    done = CliRunner().invoke(main, ["compare", "HEAD"])

    assert done.exit_code == 0, done.stderr
    assert "to   working tree" in done.stdout
    same = f"none at working tree and none at {third.name} are right on the very same questions"
    assert same in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["HEAD", "no-such-branch"], "'no-such-branch' is no commit"),
        (["--", "--output=x", "HEAD"], "'--output=x' is no commit"),
    ],
)
def test_what_is_no_commit_is_refused(story, monkeypatch, words, told):
    project, *_ = story
    monkeypatch.chdir(project.root)

    done = CliRunner().invoke(main, ["compare", *words])

    assert done.exit_code == 10
    assert told in done.stderr
    assert CliRunner().invoke(main, ["compare", "a", "b", "c"]).exit_code == 2


def test_what_the_cache_lacks_is_named_with_the_command_that_brings_it(story, monkeypatch):
    project, first, second, _ = story
    file = cache_file(project.root, first, "data/predictions/combined.jsonl")
    file.rename(file.with_suffix(".away"))
    monkeypatch.chdir(project.root)
    try:
        found = compare_commits(first, second)
        done = CliRunner().invoke(main, ["compare", "HEAD~2", "HEAD~1"])
    finally:
        file.with_suffix(".away").rename(file)

    assert found.missing == ["data/predictions/combined.jsonl"]
    assert {d.other for d in found.differences} == {f"none at {first.name}"}
    assert found.settings
    with pytest.raises(
        DataError, match=r"dvc fetch --all-commits data/predictions/combined\.jsonl"
    ):
        require_all(found)
    assert done.exit_code == 10
    assert "Settings:" in done.stdout  # the rest is told all the same


def test_a_damaged_cache_is_refused(story):
    project, first, second, _ = story
    file = cache_file(project.root, first, "data/predictions/combined.jsonl")
    body, mode = file.read_bytes(), file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(body.replace(b"yes", b"no", 1))
    try:
        with pytest.raises(IntegrityError, match="the cache is damaged"):
            compare_commits(first, second)
    finally:
        file.write_bytes(body)
        file.chmod(mode)


def test_a_folder_that_is_no_finished_pipeline_is_told(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(
        ["git", *author, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True
    )
    empty = revision(tmp_path, "HEAD")

    with pytest.raises(DataError, match=r"holds no params\.yaml"):
        compare_commits(empty, empty)


def test_changes_are_by_id_and_settings_by_key():
    assert changes({"a": 1, "b": 2}, {"b": 3, "c": 1}) == Changes(("c",), ("a",), ("b",))
    assert not changes({"a": 1}, {"a": 1}).any()
    assert settings({"x": {"y": 1}}, {"x": {"y": 1}}) == []
    assert settings({"x": {"y": 1}}, {"x": {}}) == [
        Setting("x", None, "{}"),
        Setting("x.y", "1", None),
    ]


def cache_file(root, rev, path):
    lock = subprocess.run(
        ["git", "show", f"{rev.commit}:dvc.lock"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    outs = yaml.safe_load(lock)["stages"]["all"]["outs"]
    [digest] = [out["md5"] for out in outs if out["path"] == path]
    return root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
