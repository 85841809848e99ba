"""The embedded sample keeps its promises: fictional, varied, in PubMedQA's layout."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

from medslm.data.pubmedqa import read_questions

FOLDER = Path(__file__).parent.parent.parent / "data" / "sample"
BODY = json.loads((FOLDER / "pqal.json").read_text(encoding="utf-8"))
CATALOGUE = json.loads((FOLDER / "catalogue.json").read_text(encoding="utf-8"))
MORE = json.loads((FOLDER / "pqau.json").read_text(encoding="utf-8"))
FIELDS = [
    "QUESTION",
    "CONTEXTS",
    "LABELS",
    "MESHES",
    "YEAR",
    "reasoning_required_pred",
    "reasoning_free_pred",
    "final_decision",
    "LONG_ANSWER",
]


def test_there_are_160_studies_with_ids_that_are_no_pmids():
    assert list(BODY) == [str(90000001 + i) for i in range(160)]
    assert list(CATALOGUE) == list(BODY)
    assert len(read_questions(FOLDER / "pqal.json")) == 160


def test_every_study_has_exactly_pubmedqas_fields():
    assert {tuple(study) for study in BODY.values()} == {tuple(FIELDS)}


def test_the_answers_are_as_frequent_as_in_pubmedqa():
    assert Counter(s["final_decision"] for s in BODY.values()) == {"yes": 88, "no": 54, "maybe": 18}


def test_designs_and_topics_are_many():
    assert len({entry["design"] for entry in CATALOGUE.values()}) >= 12
    assert len({entry["topic"] for entry in CATALOGUE.values()}) >= 60


def test_contexts_have_90_to_160_words_and_a_label_each():
    for pmid, study in {**BODY, **MORE}.items():
        assert 90 <= sum(len(text.split()) for text in study["CONTEXTS"]) <= 160, pmid
        assert len(study["LABELS"]) == len(study["CONTEXTS"]), pmid


def test_the_prose_is_varied():
    shingles = defaultdict(set)
    for pmid, study in {**BODY, **MORE}.items():
        words = re.findall(r"[a-z]+", " ".join(study["CONTEXTS"]).lower())
        for i in range(len(words) - 7):
            shingles[tuple(words[i : i + 8])].add(pmid)
    shared = Counter(two for pmids in shingles.values() for two in combinations(sorted(pmids), 2))
    openings = Counter(" ".join(s["QUESTION"].split()[:2]) for s in BODY.values())

    assert max(shared.values(), default=0) <= 4, shared.most_common(3)
    assert openings.most_common(1)[0][1] <= 16, openings.most_common(3)


def test_the_answer_stands_in_no_question():
    for study in [*BODY.values(), *MORE.values()]:
        # "no" is left out: "milder or no pain" gives nothing away
        assert not re.search(r"\b(yes|maybe)\b", study["QUESTION"].lower()), study["QUESTION"]


def test_there_are_12_more_studies_without_an_answer():
    unlabelled = read_questions(FOLDER / "pqau.json")

    assert [q.pmid for q in unlabelled] == [str(90001001 + i) for i in range(12)]
    assert {q.answer for q in unlabelled} == {None}
    assert {tuple(study) for study in MORE.values()} == {
        ("QUESTION", "CONTEXTS", "LABELS", "MESHES", "YEAR", "LONG_ANSWER")
    }
    assert all(q.long_answer not in q.context for q in unlabelled)
