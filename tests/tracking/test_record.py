"""A record holds every number and knob, flat, finite and without passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.files import write_text
from medslm.tracking.record import (
    MAX_PARAM_LENGTH,
    flat_params,
    read_curve,
    read_metrics,
    split_long,
    variant_params,
    without_credentials,
)

HEADER = "fold,seed,epoch,step,train_loss,dev_loss,dev_accuracy,dev_macro_f1,learning_rate\n"


def test_numbers_are_flattened_and_texts_lists_truths_and_nulls_left_out(tmp_path):
    body = '{"dev": {"n": 8, "f1": 0.5, "nll": null, "ok": true}, "cells": [1], "variant": "x"}'
    write_text(tmp_path / "s.json", body)

    assert read_metrics(tmp_path / "s.json") == {"dev.f1": 0.5, "dev.n": 8.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a score file"),
        ("{}", "no number"),
        ('{"a": "b"}', "no number"),
    ],
)
def test_a_file_that_is_no_score_is_named(tmp_path, text, words):
    write_text(tmp_path / "s.json", text)

    with pytest.raises(DataError, match=words):
        read_metrics(tmp_path / "s.json")


def test_a_curve_has_one_line_per_cell_and_skips_what_was_not_measured(tmp_path):
    rows = "0,0,1,10,1.5,,0.5,0.4,0.001\n1,2,1,12,1.25,0.5,0.5,0.4,0.001\n"
    write_text(tmp_path / "c.csv", HEADER + rows)

    points = {(p.key, p.step): p.value for p in read_curve(tmp_path / "c.csv")}

    assert points["train/fold0-seed0/train_loss", 10] == 1.5
    assert points["train/fold1-seed2/dev_loss", 12] == 0.5
    assert ("train/fold0-seed0/dev_loss", 10) not in points


@pytest.mark.parametrize(
    "text", ["fold,seed\n0,0\n", HEADER + "0,0,1,x,1,1,1,1,1\n", HEADER + "0,0\n"]
)
def test_a_curve_that_is_something_else_is_named(tmp_path, text):
    write_text(tmp_path / "c.csv", text)

    with pytest.raises(DataError, match=r"c\.csv: not a training history"):
        read_curve(tmp_path / "c.csv")


@given(st.text(min_size=0, max_size=MAX_PARAM_LENGTH + 50))
def test_no_value_is_cut(value):
    short, texts = split_long({"a": value})

    assert len(short["a"]) <= MAX_PARAM_LENGTH
    assert (texts or short) == ({"params/a.txt": value} if texts else {"a": value})


def test_a_value_is_kept_up_to_the_limit_and_moved_beyond_it():
    assert split_long({"a": "x" * MAX_PARAM_LENGTH})[1] == {}
    assert split_long({"a": "x" * (MAX_PARAM_LENGTH + 1)})[1] != {}


def test_passwords_in_urls_are_masked_and_other_text_is_left_alone():
    assert (
        without_credentials("git@host https://me:pw@host/x?a=b@c")
        == "git@host https://***@host/x?a=b@c"
    )
    assert flat_params({"a": {"b": [1, None]}, "c": True}) == {"a.b": "[1, null]", "c": "true"}


def test_a_control_is_logged_with_the_variant_whose_length_it_has():
    sections = ("data", "split", "student", "tune", "quality", "asks", "answers", "teachers")
    params = {section: {} for section in sections}
    variants = {"none": [], "none-long": {"asks": [], "as_many_as": "combined"}}

    found = variant_params({**params, "variants": variants}, "none-long")
    plain = variant_params({**params, "variants": variants}, "none")

    assert found["variant.as_many_as"] == "combined"
    assert found["variant.asks"] == plain["variant.asks"] == "[]"
    assert "variant.as_many_as" not in plain
