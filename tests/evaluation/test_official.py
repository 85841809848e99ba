"""Published PubMedQA numbers come out of our metrics, on the real questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medslm.data.pubmedqa import read_questions
from medslm.data.scores import accuracy, macro_f1
from medslm.data.split import split
from medslm.evaluation.metrics import class_scores
from medslm.evaluation.rows import CITED
from medslm.evaluation.score import Pooled, part
from medslm.evaluation.testset import name_of

pytestmark = pytest.mark.real


@pytest.fixture
def gold(real_pubmedqa: Path):
    questions = read_questions(real_pubmedqa)
    chosen = set(split(questions, protocol="official").test)
    return {q.pmid: q.answer for q in questions if q.pmid in chosen}


def test_the_majority_baseline_has_its_published_scores(gold):
    found = part({pmid: Pooled("yes", {}) for pmid in gold}, gold)

    assert found.n == 500
    assert (found.accuracy, round(found.macro_f1, 3)) == (0.552, 0.237)
    assert [sum(row) for row in found.confusion] == [276, 169, 55]
    assert name_of(gold) == "official"


def test_the_human_annotator_has_the_published_scores(gold, real_pubmedqa):
    # the field that get_human_performance.py of the benchmark reads
    raw = json.loads(real_pubmedqa.read_text(encoding="utf-8"))
    pmids = sorted(gold)
    truth = [gold[pmid] for pmid in pmids]
    answers = [raw[pmid]["reasoning_required_pred"] for pmid in pmids]

    scores = class_scores(truth, answers)
    assert accuracy(truth, answers) == pytest.approx(0.780)
    assert macro_f1(truth, answers) == pytest.approx(0.722, abs=5e-4)
    assert [round(scores[a].f1, 3) for a in ("yes", "no", "maybe")] == [0.833, 0.744, 0.588]


def test_the_lines_of_the_last_500_are_what_the_file_gives(real_pubmedqa):
    raw = json.loads(real_pubmedqa.read_text(encoding="utf-8"))
    questions = read_questions(real_pubmedqa)
    chosen = split(questions, protocol="last-500").test
    truth = [raw[pmid]["final_decision"] for pmid in chosen]
    lines = {r.name: r for r in CITED if r.test_set == "last-500"}

    assert name_of(dict(zip(chosen, truth, strict=True))) == "last-500"
    human = [raw[pmid]["reasoning_required_pred"] for pmid in chosen]
    for name, answers in (
        ("human, labels of Jin et al. 2019", human),
        ("majority of the last 500", ["yes"] * 500),
    ):
        assert lines[name].accuracy == pytest.approx(accuracy(truth, answers))
        assert lines[name].macro_f1 == pytest.approx(macro_f1(truth, answers), abs=5e-4)
