"""Score sheets on disk."""

from __future__ import annotations

import json

import pytest

from medslm.errors import DataError
from medslm.evaluation.sheet import Sheet, read_record, read_sheet, write_record
from tests.evaluation.worlds import sheet


def test_a_sheet_comes_back_as_it_was_written_to_six_digits(tmp_path):
    write_record(tmp_path / "none.json", sheet("none"))
    first = read_sheet(tmp_path, "none")

    write_record(tmp_path / "again.json", first)

    assert read_record(tmp_path / "again.json", Sheet) == first
    assert first.test.accuracy == pytest.approx(sheet("none").test.accuracy, abs=1e-6)


def test_numbers_have_at_most_six_digits(tmp_path):
    write_record(tmp_path / "none.json", sheet("none"))

    part = json.loads((tmp_path / "none.json").read_text())["test"]
    assert part["macro_f1"] == round(part["macro_f1"], 6)
    assert part["macro_f1"] != sheet("none").test.macro_f1


def test_a_missing_sheet_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read_sheet(tmp_path, "none")


def test_a_sheet_under_another_name_is_refused(tmp_path):
    write_record(tmp_path / "none.json", sheet("combined"))

    with pytest.raises(DataError, match="holds the scores of combined, not none"):
        read_sheet(tmp_path, "none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "not a Sheet: variant"),
        ("[]", "not a Sheet"),
        ('{"variant": NaN}', "NaN is not JSON"),
        ("{", "not JSON"),
    ],
)
def test_a_damaged_sheet_is_named(tmp_path, text, told):
    (tmp_path / "none.json").write_text(text)

    with pytest.raises(DataError, match=told):
        read_sheet(tmp_path, "none")
