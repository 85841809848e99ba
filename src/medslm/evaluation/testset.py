"""Which test set a score is of: numbers of different ones are never put side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from medslm.data.records import Answer
from medslm.data.split import OFFICIAL_TEST_SHA256, pmids_sha256
from medslm.files import sha256_of_json

TestSet = Literal["official", "last-500", "own"]

# sha256 of the sorted PMIDs of the last 500 questions of ori_pqal.json, the test set of Guo et al.'s code
LAST_500_SHA256 = "882747bc57359da0e28beccc8c359aea4876811b0079fde803a9425a07406232"
_NAMES: dict[str, TestSet] = {OFFICIAL_TEST_SHA256: "official", LAST_500_SHA256: "last-500"}
TITLES: dict[TestSet, str] = {
    "official": "PubMedQA's official 500 test questions",
    "last-500": "the last 500 questions of PQA-L, as in Guo et al. 2023",
    "own": "this data set's own test questions",
}


def name_of(gold: Mapping[str, Answer]) -> TestSet:
    """Return the name of the test set with these PMIDs; "own" when it is no published one."""
    return _NAMES.get(pmids_sha256(list(gold)), "own")


def digest_of(gold: Mapping[str, Answer]) -> str:
    """Return what equal test sets, questions and gold answers both, have in common."""
    return sha256_of_json(dict(gold))[:16]
