"""Every row of the table of data faults has a test of its name; what is not tested is said here."""

from __future__ import annotations

import ast
import re

from tests.code_deps import ROOT

# The rows about files, splits, replies, pairs, pages and reports that pass though they should not.
# Archives (18) belong to no list: none is read.
ROWS = {
    1: "a changed upstream file",
    2: "a field renamed, missing, new or of another type",
    4: "a line or a file that is too long",
    5: "a PMID twice",
    6: "a split that is not the official one",
    7: "a pair of a test study, of none, or that copies one",
    8: "blank texts",
    9: "no rows, all rows gone, a suite without expectations",
    10: "NaN, infinity and null in a column of numbers",
    11: "answers that collapse or lack one",
    13: "texts that could run in a report",
    14: "cells that a spreadsheet takes for a formula",
    15: "an abstract that gives orders",
    16: "a secret in a generated text",
    20: "a context longer than the model's window",
    21: "texts that make expressions slow",
}


def named() -> dict[int, list[str]]:
    """Return the tests that carry the number of a row in their name."""
    found: dict[int, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (
                match := re.match(r"test_b(\d\d)_", node.name)
            ):
                found.setdefault(int(match.group(1)), []).append(node.name)
    return found


def test_every_row_has_a_test_of_its_name():
    assert [row for row in ROWS if row not in named()] == []


def test_a_row_without_a_test_would_be_noticed():
    assert 3 not in named()
