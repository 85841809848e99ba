from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from medslm.cli import main
from medslm.data.fetch import DataParams
from medslm.data.split import SplitParams
from medslm.data.variants import Variants, asks_of
from medslm.errors import ParamsError
from medslm.evaluation.compare import CompareParams
from medslm.files import sha256_of
from medslm.params import load_all
from medslm.profile import NAMES, apply_profile, load_profile, set_value, use_replies
from medslm.quality.settings import (
    DoubtParams,
    ExpectationParams,
    InputParams,
    LeakageParams,
    MixParams,
    PredictionParams,
    RuleParams,
    VerifierParams,
)
from medslm.quality.variety import DiversityParams
from medslm.student.settings import ComputeParams, StudentParams, TuneParams
from medslm.teacher.settings import AnswersParams, AskParams, TeacherParams
from medslm.tracking.ledger import TrackParams
from medslm.tracking.sweep import SweepParams
from tests.code_deps import ROOT

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")

SECTIONS = {
    "data": DataParams,
    "split": SplitParams,
    "teachers": dict[str, TeacherParams],
    "asks": dict[str, AskParams],
    "quality.verifier": VerifierParams,
    "quality.rules": RuleParams,
    "quality.expectations": ExpectationParams,
    "quality.leakage": LeakageParams,
    "quality.diversity": DiversityParams,
    "quality.doubt": DoubtParams,
    "quality.inputs": InputParams,
    "quality.mixes": MixParams,
    "quality.predictions": PredictionParams,
    "student": StudentParams,
    "tune": TuneParams,
    "compute": ComputeParams,
    "sweep": SweepParams,
    "answers": dict[str, AnswersParams],
    "variants": Variants,
    "compare": CompareParams,
    "track": TrackParams,
}


def test_every_section_of_params_is_read_by_some_code():
    names = {name.split(".")[0] for name in SECTIONS}

    assert set(yaml.safe_load(PARAMS)) == names
    assert {f"quality.{key}" for key in yaml.safe_load(PARAMS)["quality"]} <= set(SECTIONS)


@pytest.mark.parametrize("profile", [None, *NAMES])
@pytest.mark.parametrize("section", SECTIONS)
def test_every_profile_gives_valid_params(tmp_path, section, profile):
    path = tmp_path / "params.yaml"
    text = PARAMS if profile is None else apply_profile(PARAMS, load_profile(profile))
    path.write_text(text, encoding="utf-8")

    assert load_all(path, section, SECTIONS[section]) is not None


@pytest.mark.parametrize("profile", NAMES)
def test_asks_and_variants_of_a_profile_name_things_that_exist(profile):
    params = yaml.safe_load(apply_profile(PARAMS, load_profile(profile)))

    assert {ask["teacher"] for ask in params["asks"].values()} <= set(params["teachers"])
    assert {a["teacher"] for a in params["answers"].values()} <= set(params["teachers"])
    assert params["answers"]
    assert {ask for entry in params["variants"].values() for ask in asks_of(entry)} <= set(
        params["asks"]
    )
    controls = ["none-long"] if profile == "pubmedqa" else []
    assert list(params["variants"]) == ["none", "rewrite", "new", "combined", *controls]


def test_the_sample_profile_is_what_the_project_comes_with():
    assert apply_profile(PARAMS, load_profile("sample")) == PARAMS


@pytest.mark.parametrize("profile", ["pubmedqa", "paper"])
def test_a_profile_keeps_the_comments_and_the_way_back_is_exact(profile):
    there = apply_profile(PARAMS, load_profile(profile))

    assert there != PARAMS
    assert "# LoRA wants about ten times the rate of full tuning" in there
    assert "abstain_below: 0.4     # a best answer just above" in there
    assert apply_profile(there, load_profile("sample")) == PARAMS


def test_one_value_is_set_in_its_line_and_its_comment_stays():
    text = "a:\n  x: 1  # why\n  y: 2\n# about b\nb:\n  x: 3\n"

    changed = set_value(text, "b", "x", "[0, 1]")
    changed = set_value(changed, "a", "x", "top-5")

    assert changed == "a:\n  x: top-5  # why\n  y: 2\n# about b\nb:\n  x: [0, 1]\n"
    with pytest.raises(ParamsError, match=r"b\.y: there is no such line"):
        set_value(text, "b", "y", "1")
    with pytest.raises(ParamsError, match="c: there is no such section"):
        set_value(text, "c", "y", "1")


def test_an_unknown_profile_is_refused_and_nothing_changes(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS, encoding="utf-8")

    result = CliRunner().invoke(main, ["profile", "nature", "--params", str(path)])

    assert result.exit_code == 2
    assert "choose one of" in result.stderr
    assert path.read_text(encoding="utf-8") == PARAMS


def test_files_of_ones_own_take_the_place_of_download_and_teacher(tmp_path):
    path, replies = tmp_path / "params.yaml", tmp_path / "replies.jsonl"
    questions = ROOT / "data" / "sample" / "pqal.json"
    path.write_text(PARAMS, encoding="utf-8")
    rows = [("1", "rewrite", 0), ("1", "new", 0), ("1", "new", 1), ("2", "rewrite", 0)]
    replies.write_text(
        "".join(
            json.dumps({"pmid": p, "strategy": s, "index": i, "reply": {"question": "?"}}) + "\n"
            for p, s, i in rows
        )
    )

    options = ["--questions", str(questions), "--replies", str(replies)]
    result = CliRunner().invoke(main, ["profile", "pubmedqa", "--params", str(path), *options])

    assert result.exit_code == 0, result.stderr
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert params["data"] == {
        "source": "file",
        "path": str(questions),
        "sha256": sha256_of(questions),
        "unlabelled": None,
    }
    assert params["teachers"]["recorded"]["sha256"] == sha256_of(replies)
    assert {name: ask["per_question"] for name, ask in params["asks"].items()} == {
        "recorded-rewrite": 1,
        "recorded-new": 2,
    }
    assert params["variants"]["combined"] == ["recorded-rewrite", "recorded-new"]
    assert params["answers"] == {}
    for section, kind in SECTIONS.items():
        load_all(path, section, kind)


def test_recorded_answers_become_a_line_of_their_own_and_train_nobody(tmp_path):
    replies = tmp_path / "replies.jsonl"
    rows = [("1", "rewrite"), ("2", "answer")]
    replies.write_text(
        "".join(
            json.dumps({"pmid": p, "strategy": s, "index": 0, "reply": "no"}) + "\n"
            for p, s in rows
        )
    )

    params = yaml.safe_load(use_replies(PARAMS, replies))

    entry = {"teacher": "recorded", "shots": 0, "prompt": "v1", "seed": 0}
    assert params["answers"] == {"recorded-answer": entry}
    assert list(params["asks"]) == ["recorded-rewrite"]
    assert list(params["variants"]) == ["none", "rewrite", "combined"]


def test_missing_files_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS, encoding="utf-8")

    for option in ("--questions", "--replies"):
        result = CliRunner().invoke(
            main, ["profile", "pubmedqa", "--params", str(path), option, "nowhere.json"]
        )
        assert result.exit_code == 10
        assert "nowhere.json: no such file" in result.stderr
    assert path.read_text(encoding="utf-8") == PARAMS


def test_recorded_replies_keep_the_controls_that_need_no_ask(tmp_path):
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"pmid": "1", "strategy": "rewrite", "index": 0, "reply": "no"}\n')
    text = apply_profile(PARAMS, load_profile("pubmedqa"))

    kept = yaml.safe_load(use_replies(text, replies))["variants"]
    dropped = yaml.safe_load(use_replies(PARAMS, replies))["variants"]

    assert kept.pop("none-long") == {"asks": [], "as_many_as": "combined"}
    assert (
        kept
        == dropped
        == {
            "none": [],
            "rewrite": ["recorded-rewrite"],
            "combined": ["recorded-rewrite"],
        }
    )
