"""What tuning will take is known before it starts, and what cannot end is refused with what would."""

from __future__ import annotations

import dataclasses
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from medslm.cli import main
from medslm.data.split import Fold, write_folds
from medslm.errors import TooLarge
from medslm.files import write_json, write_jsonl
from medslm.student import feasible
from medslm.student.feasible import mean_and_longest, require_trainable
from medslm.student.flops import Flops
from medslm.student.machine import Machine, free_disk, free_memory, probe
from medslm.student.plan import Workload, estimates, recipe_of, require_feasible
from medslm.student.planning import read_plan
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.shapes import read_shape
from tests.code_deps import ROOT
from tests.factories import example, question
from tests.test_plan import stage_main

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
STUDENT = StudentParams(**{**PARAMS["student"], "dtype": "float32"})
SMOLLM2 = read_shape("smollm2-135m", None)
# Two cores of the machine that the constants were measured on.
TWO_CORES = Machine("cpu", 2, "bfloat16", 290e9, 20 * 2**30, 50 * 2**30)
WORK = Workload(
    examples={"none": 450},
    dev=50,
    test=500,
    folds=1,
    seeds=1,
    tokens=339,
    longest=822,
    distinct=1000,
)


def tune(**changes):
    return TuneParams(**{**PARAMS["tune"], **changes})


def planned(tune_=None, *, work=WORK, machine=TWO_CORES, shape=SMOLLM2):
    rows = estimates(shape, STUDENT, tune_ or tune(), work, machine)
    return {row.stage: row for row in rows}


@pytest.fixture
def seven(tmp_path):
    """LLaMA-7B as far as a plan needs it: its config.json."""
    folder = tmp_path / "llama-7b"
    write_json(folder / "config.json", LLAMA)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "data/sample", tmp_path / "data/sample")
    write_params()
    return tmp_path


def write_params(**sections):
    body = {name: {**PARAMS[name], **sections.get(name, {})} for name in PARAMS}
    Path("params.yaml").write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")


def plan():
    return CliRunner().invoke(main, ["plan", "--only", "student"])


# ---- estimates


def test_work_grows_with_epochs_examples_seeds_and_layers():
    usual = planned(tune(layers="top-10"))["train@none"]

    def more(work=WORK, **changes):
        return planned(tune(**{"layers": "top-10", **changes}), work=work)["train@none"].flops.total

    assert more(epochs=4) == pytest.approx(2 * usual.flops.total)
    assert more(dataclasses.replace(WORK, seeds=3)) == pytest.approx(3 * usual.flops.total)
    assert more(dataclasses.replace(WORK, examples={"none": 900})) > 1.8 * usual.flops.total
    assert more(layers="all") > 2.5 * usual.flops.total
    assert more(reuse_frozen=False) > 1.5 * usual.flops.total


def test_work_and_memory_grow_with_virtual_tokens_and_targets():
    short, long = (
        planned(tune(method="prefix", layers="all", virtual_tokens=n))["train@none"]
        for n in (16, 512)
    )
    assert long.flops.total > 1.2 * short.flops.total
    assert long.memory > short.memory
    assert long.disk == pytest.approx(32 * short.disk)
    every, queries = (
        planned(tune(method="lora", layers="all", targets=t))["train@none"]
        for t in ("all-linear", ["q_proj"])
    )
    assert queries.flops.total < every.flops.total
    assert queries.disk < 0.2 * every.disk
    unknown = planned(tune(method="lora", layers="all", targets=["qkv"]))["train@none"]
    assert unknown == every  # an upper bound for linears of another name


def test_only_a_cached_plan_has_features_to_compute():
    assert "features" in planned(tune(layers="top-10"))
    assert "features" not in planned(tune(layers="top-10", reuse_frozen=False))
    assert "features" not in planned(tune(layers="all"))


def test_the_figures_of_real_pubmedqa_are_those_that_were_worked_out_by_hand():
    """GFLOP an example, T = 400: all layers about 192, the top ten cached about 66 less 5 of the last."""
    work = dataclasses.replace(WORK, tokens=400 / 1.03, dev=0)

    exact = planned(tune(layers="all", epochs=1), work=work)["train@none"].flops.total
    cached = planned(tune(layers="top-10", epochs=1), work=work)["train@none"].flops.total

    assert exact / 450 == pytest.approx(195e9, rel=0.06)
    assert cached / 450 == pytest.approx(61e9, rel=0.06)


def test_a_slower_machine_takes_longer_and_computes_the_same():
    slow = dataclasses.replace(TWO_CORES, rate=29e9)

    one, ten = planned()["train@none"], planned(machine=slow)["train@none"]

    assert ten.flops == one.flops
    assert 3 < ten.seconds / one.seconds < 10  # start-up takes what it takes


def test_memory_grows_with_the_batch_and_the_weights():
    usual = planned()["train@none"].memory

    assert planned(tune(batch_size=32))["train@none"].memory > usual
    seven = planned(shape=dataclasses.replace(SMOLLM2, vocabulary=10**7))["train@none"].memory
    assert seven > usual + 10**7 * 576 * 2 * 0.9


def test_lengths_are_estimated_without_a_tokenizer_and_cut_where_prompts_are():
    texts = [("a" * 1400, "b" * 30), ("a" * 2900, "b" * 30)]

    mean, longest = mean_and_longest(texts, 1024)

    assert mean == pytest.approx((1478 + 2978) / 2 / 4.4, rel=0.01)
    assert longest == pytest.approx(2978 / 3.5, rel=0.01)
    assert mean_and_longest(texts, 64) == (64, 64)


# ---- this machine


def test_the_probe_measures_what_this_machine_has(tmp_path):
    found = probe(SMOLLM2, "float32", tmp_path / "not/there/yet")

    assert 1e9 < found.rate < 1e15
    assert 0 < found.memory <= free_memory() * 1.5
    assert found.disk == pytest.approx(free_disk(Path("/")), rel=0.5) or found.disk > 0
    assert found.dtype == "float32"


# ---- refusals


def refused(tune_, machine=TWO_CORES, shape=SMOLLM2, work=WORK, hours=8.0):
    rows = estimates(shape, STUDENT, tune_, work, machine)
    with pytest.raises(TooLarge) as caught:
        require_feasible(rows, shape, STUDENT, tune_, work, machine, hours)
    return str(caught.value)


def accepted(tune_, machine=TWO_CORES, shape=SMOLLM2, work=WORK, hours=8.0):
    rows = estimates(shape, STUDENT, tune_, work, machine)
    require_feasible(rows, shape, STUDENT, tune_, work, machine, hours)
    return True


def test_hours_that_do_not_suffice_are_refused_and_what_is_proposed_does():
    many = tune(layers="all", epochs=10)

    said = refused(many, hours=0.5)

    assert re.search(r"TFLOP take [\d.]+ hours .* compute\.max_hours is 0\.5", said)
    layers = re.search(r"tune\.layers: (top-\d+) with reuse_frozen", said)
    epochs = re.search(r"tune\.epochs: (\d+)", said)
    assert layers
    assert epochs
    assert accepted(tune(layers=layers[1], epochs=10), hours=0.5)
    assert accepted(tune(layers="all", epochs=int(epochs[1])), hours=0.5)
    refused(tune(layers="all", epochs=int(epochs[1]) + 1), hours=0.5)
    assert accepted(many, hours=50)


def test_memory_that_does_not_suffice_is_refused_and_what_is_proposed_does():
    small = dataclasses.replace(TWO_CORES, memory=int(3.0 * 2**30))
    large = tune(layers="all", batch_size=8)

    said = refused(large, small)

    assert re.search(r"train@none needs [\d.]+ GiB of memory in bfloat16, 3\.0 are free", said)
    assert re.search(r"a GPU with \d+ GiB", said)
    batch = re.search(r"tune\.batch_size: (\d+)", said)
    assert batch
    assert accepted(tune(layers="all", batch_size=int(batch[1])), small)
    assert accepted(large)


def test_a_disk_that_is_too_small_is_refused():
    full = dataclasses.replace(TWO_CORES, disk=10**6)

    assert "of disk are needed" in refused(tune(), full)


def test_llama_7b_is_refused_by_plan_and_train_before_a_weight_is_looked_for(project, seven):
    write_params(
        student={"model": str(seven), "dtype": "bfloat16"}, tune={"layers": "all", "epochs": 3}
    )

    result = plan()

    assert result.exit_code == 45, result.output
    assert "train@combined" in result.stdout  # the table comes first
    assert re.search(r"llama-7b \(6\.7B\): .* what would do: ", result.stderr)
    assert re.search(r"a smaller student\.model or a GPU with \d\d GiB", result.stderr)


def test_a_small_training_is_let_through_without_a_probe(project, monkeypatch):
    def no_probe(*_):
        raise AssertionError("this machine was measured")

    monkeypatch.setattr(feasible, "probe", no_probe)

    require_trainable(WORK, STUDENT, tune(epochs=1), 8.0, project)
    with pytest.raises(AssertionError, match="was measured"):
        require_trainable(WORK, STUDENT, tune(epochs=100), 0.1, project)


def test_the_train_stage_refuses_before_it_looks_for_weights(project, seven):
    """The folder holds no safetensors file, which is error 2 as soon as anything tries to load it."""
    write_json(seven / "config.json", {**LLAMA, "num_hidden_layers": 6, "hidden_size": 1024})
    questions = [question(str(i)) for i in range(8)]
    write_jsonl(Path("dev.jsonl"), questions[6:])
    write_jsonl(Path("mix.jsonl"), [example(str(i)) for i in range(6)])
    write_folds(Path("folds.json"), {"0": Fold(tuple("012345"), ("6", "7"))})
    train = ["--variant", "none", "--mix", "mix.jsonl", "--dev", "dev.jsonl"]
    write_json(Path("none.json"), {"identity": None, "prompts": {}})
    train += [
        "--folds",
        "folds.json",
        "--features",
        "none.json",
        "--out",
        "models/none",
        "--curves",
        "none.csv",
    ]
    student = {"model": str(seven), "dtype": "bfloat16"}

    def run(max_hours):
        write_params(student=student, tune={"layers": "top-4"}, compute={"max_hours": max_hours})
        return CliRunner().invoke(stage_main("train"), train)

    refused, let_through = run(0.0001), run(1e6)

    assert refused.exit_code == 45, refused.output
    assert "compute.max_hours is 0.0001" in refused.stderr
    assert let_through.exit_code == 2, let_through.output
    assert "holds no *.safetensors file" in let_through.stderr


def test_the_shipped_settings_are_planned_and_pass(project):
    result = plan()

    assert result.exit_code == 0, result.output
    stages = re.findall(r"^(\S+) .*\d$", result.stdout, re.MULTILINE)
    assert {"features", "train@none", "predict@combined", "baselines", "total"} <= set(stages)
    assert "combined: no mix is here yet" in result.stdout
    assert "134M weights" in result.stdout


def test_a_mix_that_is_there_is_counted(project):
    guessed = read_plan(Path("params.yaml")).work.examples
    write_jsonl(Path("data/mix/combined.jsonl"), [example("1")])

    counted = read_plan(Path("params.yaml")).work.examples

    assert guessed["combined"] == guessed["none"] * 4
    assert counted == {**guessed, "combined": 1}


def test_a_control_is_counted_as_long_as_the_variant_it_follows(project):
    long = {"asks": [], "as_many_as": "combined"}
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["variants"] = {"long": long, **params["variants"]}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    found = read_plan(Path("params.yaml")).work.examples

    assert list(found) == list(params["variants"])
    assert found["long"] == found["combined"] > found["none"]


def test_quotas_are_counted_with_the_answers_that_the_asks_aim_at(project):
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    asks = params["variants"]["combined"]
    # DVC's own reader takes a bare yes for a word; this one for a truth
    quotas = {"maybe": 0.1}
    capped = {"asks": asks, "quotas": quotas, "seed": 0}
    params["variants"] |= {"capped": capped, "long": {"asks": [], "as_many_as": "capped"}}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    found = read_plan(Path("params.yaml")).work.examples

    assert found["none"] < found["capped"] < found["combined"]
    assert found["long"] == found["capped"]


def test_the_plan_comes_in_eight_seconds_of_processor_time(project, seven):
    write_params(
        student={"model": str(seven), "dtype": "bfloat16"}, tune={"layers": "all", "epochs": 3}
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = subprocess.run(
        [sys.executable, "-m", "medslm.cli", "plan", "--only", "student"],
        capture_output=True,
        text=True,
        check=False,
    )

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 45, done.stderr
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 8


def test_the_recipe_says_what_is_trained():
    assert recipe_of(SMOLLM2, tune(layers="all")).trained == 30
    assert not recipe_of(SMOLLM2, tune(layers="all")).cached
    assert recipe_of(SMOLLM2, tune(layers="top-10")).trained == 10
    assert recipe_of(SMOLLM2, tune(layers="top-10")).cached
    assert (Flops(1, 2) + Flops(3, 4)) * 2 == Flops(8, 12)
