"""The knobs of the section `quality` are those of the rules, and out-of-range ones are refused."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from medslm.quality.rules import Limits
from medslm.quality.settings import ExpectationParams, RuleParams, VerifierParams
from tests.stages.quality_files import PARAMS


def test_every_limit_of_the_rules_is_a_knob_and_every_knob_a_limit():
    assert set(RuleParams.model_fields) == {field.name for field in dataclasses.fields(Limits)}


@pytest.mark.parametrize(
    ("section", "name", "knob", "bad"),
    [
        (RuleParams, "rules", "min_support", -0.1),
        (RuleParams, "rules", "leak_overlap", 0.0),
        (RuleParams, "rules", "max_edit_share", 0.0),
        (RuleParams, "rules", "max_edit_share", 1.1),
        (RuleParams, "rules", "copied_words", 1),
        (VerifierParams, "verifier", "abstain_below", 1.1),
        (VerifierParams, "verifier", "measured_on", 0),
        (VerifierParams, "verifier", "dtype", "float64"),
        (ExpectationParams, "expectations", "min_kept", {"rewrite": 0}),
        (ExpectationParams, "expectations", "balance_severity", "info"),
        (ExpectationParams, "expectations", "max_answer_share", 0.0),
    ],
)
def test_a_knob_has_its_bounds(section, name, knob, bad):
    good = PARAMS["quality"][name]
    assert section.model_validate(good)

    with pytest.raises(ValidationError, match=knob):
        section.model_validate({**good, knob: bad})
