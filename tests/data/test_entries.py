"""Stages that DVC leaves in dvc.lock when their entry of params.yaml is gone."""

from __future__ import annotations

import yaml

from medslm.data.entries import STAGES_OF, current
from tests.code_deps import ROOT

LOCK = {
    name: {"cmd": "x"}
    for name in ("fetch", "ask@a", "check@a", "ask@b", "score@a", "score@v", "answer@a", "odd@a")
}


def test_the_stages_of_an_entry_are_those_of_dvc_yaml():
    body = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    repeated = {
        (stage["foreach"].removeprefix("${").removesuffix("}"), name)
        for name, stage in body.items()
        if "foreach" in stage
    }

    assert repeated == {(section, name) for section, made in STAGES_OF.items() for name in made}


def test_only_what_params_still_has_is_current():
    found = current(LOCK, {"asks": {"a": {}}, "variants": {"v": []}, "answers": {}})

    assert set(found) == {"fetch", "ask@a", "check@a", "score@v", "odd@a"}
    assert current(
        LOCK, {"asks": {"a": 1, "b": 1}, "variants": {"a": 1, "v": 1}, "answers": {"a"}}
    ) == (LOCK)


def test_a_section_that_an_older_commit_has_not_has_no_entries():
    assert set(current(LOCK, {"asks": None})) == {"fetch", "odd@a"}
