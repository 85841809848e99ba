from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from medslm.errors import ParamsError
from medslm.params import Section, load_all, load_section


class Knobs(Section):
    seed: int
    share: Annotated[float, Field(gt=0, lt=1)]


def write(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_is_read(tmp_path):
    path = write(tmp_path, "knobs: {seed: 1, share: 0.5}\nother: {}\n")

    assert load_section(path, "knobs", Knobs) == Knobs(seed=1, share=0.5)


def test_all_problems_are_named_at_once(tmp_path):
    path = write(tmp_path, "knobs: {sed: 1, share: 2}\n")

    with pytest.raises(ParamsError) as caught:
        load_section(path, "knobs", Knobs)

    message = str(caught.value)
    assert "3 problem(s)" in message
    assert "knobs.seed: Field required" in message
    assert "knobs.sed: Extra inputs are not permitted (got 1)" in message
    assert "knobs.share" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "knobs: {seed: 1, share: .nan}",
        "knobs: {seed: true, share: 0.5, x: !!python/object:os.system 1}",
    ],
)
def test_nan_and_python_tags_are_refused(tmp_path, text):
    with pytest.raises(ParamsError):
        load_section(write(tmp_path, text), "knobs", Knobs)


def test_a_problem_inside_a_union_is_named_by_its_keys_alone(tmp_path):
    from medslm.data.fetch import DataParams

    path = write(tmp_path, "data: {source: file, path: x, sha256: short, extra: 1}\n")

    with pytest.raises(ParamsError, match=r"data\.sha256: .*; data\.extra: Extra"):
        load_all(path, "data", DataParams)


def test_a_missing_section_is_named_with_its_path(tmp_path):
    with pytest.raises(ParamsError, match=r"asks\.local-new: this key is required"):
        load_all(write(tmp_path, "asks: {}\n"), "asks.local-new", dict[str, str])


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ParamsError, match="run from the project's root"):
        load_section(tmp_path / "params.yaml", "knobs", Knobs)
