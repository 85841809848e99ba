"""The stage check reports and never fails for what it finds, except for a leak or bad input."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from stages.check import main

from medslm.data.records import Dropped, Pair, Passage, Unreadable
from medslm.files import read_json, read_jsonl, write_jsonl
from medslm.quality.decisions import Decision, content_of
from medslm.quality.guard import Match
from medslm.quality.verdict import read_report
from tests.factories import pair, question
from tests.quality.builders import ballot
from tests.stages.quality_files import DEV, PAIRS, PARAMS, TEST, run, write_params, write_project

# Great Expectations imports modules that Python 3.11 deprecates (sre_constants, sre_parse).
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, PAIRS)
    return tmp_path


PARTS = ("train", "unlabelled", "dev", "test")


def check(project, out="out"):
    parts = [flag for name in PARTS for flag in (f"--{name}", f"{name}.jsonl")]
    return run(
        main,
        *("--ask", "local-rewrite", "--pairs", "pairs", "--votes", "votes.jsonl", *parts),
        *("--review", "review.jsonl", "--out", out, "--metrics", f"{out}.json"),
    )


def test_pairs_are_kept_or_dropped_and_counted(project):
    bad = pair("1", 1, question="Is <b>stay</b> shorter in adults?", answer="no")
    write_project(project, [*PAIRS, bad])
    reply = Unreadable("k", "2", "rewrite", 1, "empty", "")
    write_jsonl(project / "pairs" / "unreadable.jsonl", [reply])

    result = check(project)

    assert result.exit_code == 0, result.stderr
    assert read_jsonl(project / "out" / "kept.jsonl", Pair) == PAIRS
    dropped = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
    assert [(row.pair.id, row.reasons) for row in dropped] == [("local-rewrite:1:1", ("markup",))]
    counts = read_json(project / "out.json")
    assert (counts["replies"], counts["parsed"], counts["kept"], counts["dropped"]) == (8, 7, 6, 1)
    assert (counts["unreadable"], counts["reasons"]) == ({"empty": 1}, {"markup": 1})
    assert counts["expectations"]["failed_critical"] == 0
    report = read_report(project / "out" / "expectations.json", "pairs", "local-rewrite")
    assert report.statistics.evaluated == counts["expectations"]["evaluated"] >= 15


def test_keeping_nothing_exits_0_and_the_report_says_it_failed(project):
    write_project(project, [])

    assert check(project).exit_code == 0
    assert read_json(project / "out.json")["expectations"]["failed_critical"] >= 1
    assert (project / "out" / "kept.jsonl").read_bytes() == b""


def test_a_pair_of_a_test_question_exits_12_and_writes_nothing(project):
    write_project(project, [*PAIRS, pair("90")])

    result = check(project)

    assert result.exit_code == 12
    assert "local-rewrite:90:0" in result.stderr
    assert not (project / "out").exists()
    assert not (project / "out.json").exists()


LEAKED = pair("2", 1, question=TEST[0].question, answer="maybe")


def with_leakage(project, **knobs):
    params = copy.deepcopy(PARAMS)
    params["quality"]["leakage"] |= knobs
    write_params(project, params)


@pytest.mark.parametrize(
    "leaked",
    [LEAKED, dataclasses.replace(LEAKED, question=TEST[0].question.replace("older", "young"))],
)
def test_b07_a_copy_of_a_test_question_exits_12_names_the_pair_and_writes_nothing(project, leaked):
    write_project(project, [*PAIRS, leaked])

    result = check(project)

    assert result.exit_code == 12
    assert "local-rewrite:2:1 (test PMID 90" in result.stderr
    assert not (project / "out").exists()
    assert not (project / "out.json").exists()


@pytest.mark.parametrize(("part", "code"), [("test", 12), ("dev", 0)])
def test_an_unlabelled_study_that_repeats_a_test_abstract_exits_12_and_one_of_dev_is_dropped(
    project, part, code
):
    again = question("70", sections=told(part), answer=None)
    about = pair("70", question="Is the time that adults spend there reduced by treatment 70?")
    write_project(project, [*PAIRS, about])
    for name, pmid in (("test", "90"), ("dev", "50")):
        write_jsonl(project / f"{name}.jsonl", [question(pmid, sections=told(name))])
    write_jsonl(project / "unlabelled.jsonl", [again])

    result = check(project)

    assert result.exit_code == code, result.stderr
    if code:
        assert "local-rewrite:70:0 (test PMID 90" in result.stderr
        assert not (project / "out").exists()
    else:
        dropped = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
        assert {row.pair.id: "leaks_held_out" in row.reasons for row in dropped} == {about.id: True}


def told(name):
    """Return an abstract of forty words that no other part has."""
    return (Passage("RESULTS", " ".join(f"{name}{number}" for number in range(40))),)


def test_a_hit_that_a_person_has_looked_at_is_dropped_and_stops_nothing(project):
    write_project(project, [*PAIRS, LEAKED])
    with_leakage(project, acknowledged=[LEAKED.id])

    assert check(project).exit_code == 0

    (row,) = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
    assert "leaks_held_out" in row.reasons
    (match,) = read_jsonl(project / "out" / "matches.jsonl", Match)
    assert (match.pair_id, match.part, match.pmid, match.hit) == (LEAKED.id, "test", "90", True)
    assert read_json(project / "out.json")["held_out"]["test_hits"] == 1


def test_what_is_only_close_or_copies_dev_is_dropped_and_nothing_stops(project):
    near = dataclasses.replace(LEAKED, question=TEST[0].question[:42] + " at all?")
    on_dev = pair("3", 1, question=DEV[0].question, answer="yes")
    write_project(project, [*PAIRS, near, on_dev])

    assert check(project).exit_code == 0

    dropped = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
    assert [row.pair.id for row in dropped] == [near.id, on_dev.id]
    assert all("leaks_held_out" in row.reasons for row in dropped)


def test_b07_pairs_of_a_test_pmid_or_of_none_exit_12(project):
    for source in ("90", " "):
        write_project(project, [*PAIRS, dataclasses.replace(LEAKED, pmid=source)])

        result = check(project)

        assert result.exit_code == 12
        assert LEAKED.id in result.stderr
        assert not (project / "out").exists()


def test_vectors_without_their_package_are_one_line_that_names_the_extra(project, monkeypatch):
    with_leakage(project, embeddings=True)
    monkeypatch.setattr("medslm.quality.embeddings.PACKAGE", "no_such_package")

    result = check(project)

    assert result.exit_code == 2
    assert "medslm[embeddings]" in result.stderr
    assert not (project / "out").exists()


def test_what_people_decided_is_honoured_and_outdated_decisions_are_named(project):
    short = pair("1", 1, question="Is stay?", answer="no")
    write_project(project, [*PAIRS, short])
    decisions = [
        Decision(PAIRS[0].id, content_of(PAIRS[0]), "drop", "asks two things"),
        Decision(PAIRS[1].id, "0" * 64, "drop", "was about another text"),
        Decision(short.id, content_of(short), "keep", ""),
    ]
    write_jsonl(project / "review.jsonl", decisions)

    result = check(project)

    kept = read_jsonl(project / "out" / "kept.jsonl", Pair)
    (row,) = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
    assert kept == [*PAIRS[1:], short]
    assert (row.pair, row.reasons) == (PAIRS[0], ("dropped_by_reviewer",))
    assert read_json(project / "out.json")["reasons"] == {"dropped_by_reviewer": 1}
    assert result.exit_code == 0


def test_a_damaged_file_of_decisions_exits_10_and_names_its_line(project):
    (project / "review.jsonl").write_text('{"pair_id": "a"}\n', encoding="utf-8")

    result = check(project)

    assert result.exit_code == 10
    assert "review.jsonl:1" in result.stderr
    assert not (project / "out").exists()


def test_votes_of_other_pairs_exit_10(project):
    write_jsonl(project / "votes.jsonl", [ballot(p) for p in PAIRS[1:]])

    result = check(project)

    assert result.exit_code == 10
    assert "vote again" in result.stderr


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ("rules", "min_wrods", 3, "quality.rules.min_wrods"),
        ("leakage", "hit_letters", 0.3, "hit_letters is below near_letters"),
        ("leakage", "near_runs", 0, "quality.leakage.near_runs"),
        ("leakage", "embeddings", "maybe", "quality.leakage.embeddings"),
        ("rules", "min_overlap", 1.5, "quality.rules.min_overlap"),
        ("expectations", "min_kept", {"new": 1}, "quality.expectations.min_kept.rewrite"),
        ("expectations", "min_kept", {"rewrite": 0}, "quality.expectations.min_kept.rewrite"),
    ],
)
def test_a_wrong_knob_exits_2_and_is_named(project, where, key, value, said):
    params = copy.deepcopy(PARAMS)
    params["quality"][where][key] = value
    write_params(project, params)

    result = check(project)

    assert result.exit_code == 2
    assert said in result.stderr


def test_equal_input_gives_equal_bytes_and_other_input_does_not(project):
    check(project, "one")
    check(project, "two")
    write_project(project, PAIRS[:-1])
    check(project, "other")

    def everything(out):
        files = sorted((project / out).iterdir())
        return [f.read_bytes() for f in files] + [(project / f"{out}.json").read_bytes()]

    assert everything("one") == everything("two") != everything("other")


def test_b16_a_secret_in_a_generated_text_is_dropped_and_never_said(project, caplog):
    secret = "sk-" + "a1B2" * 8
    bad = pair("1", 1, strategy="new", question=f"Is {secret} the key of adults?", answer="no")
    write_project(project, [*PAIRS, bad])

    result = check(project)

    (row,) = read_jsonl(project / "out" / "dropped.jsonl", Dropped)
    assert "secret" in row.reasons
    told = (result.stderr, result.stdout, caplog.text, (project / "out.json").read_text())
    assert not any(secret in text for text in told)
