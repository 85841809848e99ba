"""The stage alone: what it says of, and does with, the checkpoints of other inputs."""

from __future__ import annotations

import contextlib
import logging

import pytest
import yaml
from click.testing import CliRunner
from stages.train import main

from medslm.data.split import Fold, write_folds
from medslm.errors import ParamsError
from medslm.files import write_json, write_jsonl
from medslm.student.settings import require_same_result
from tests.code_deps import ROOT
from tests.factories import example, question
from tests.student.cells_world import compute, tune


@pytest.fixture
def stage(tmp_path, tiny_llama, monkeypatch, caplog):
    """Return what runs the stage on eight questions, with changes of `tune`: its exit code and its lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    caplog.set_level(logging.INFO)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["student"].update(model=str(tiny_llama), dtype="float32")
    params["track"]["live"] = False
    write_jsonl(tmp_path / "mix.jsonl", [example(str(n)) for n in range(8)])
    write_jsonl(tmp_path / "dev.jsonl", [question("20"), question("21", answer="no")])
    write_folds(tmp_path / "folds.json", {"0": Fold(tuple(map(str, range(8))), ("20", "21"))})
    write_json(tmp_path / "features.json", {"identity": None, "first": 0, "prompts": {}})
    flags = (
        "--variant none --mix mix.jsonl --dev dev.jsonl --folds folds.json --features features.json "
        "--out models/none --curves none.csv"
    )

    def run(compute=None, **changes):
        params["compute"] |= compute or {}
        params["tune"] |= {"layers": "top-2", "epochs": 1, "r": 4, "alpha": 8, **changes}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        caplog.clear()
        done = CliRunner().invoke(main, flags)
        return done.exit_code, caplog.text + done.output

    return run


def test_processes_that_would_draw_other_dropout_are_refused(stage, tmp_path):
    """A knob of `compute` changes no result: with dropout two processes would, at any number of digits."""
    code, said = stage(compute={"processes": 2}, dropout=0.1)

    assert code == 2
    assert (
        "compute.processes: 2 would draw other masks than one process with tune.dropout: 0.1"
        in said
    )
    assert not (tmp_path / "models/none").exists()
    assert stage(compute={"processes": 1}, dropout=0.1)[0] == 0


@pytest.mark.parametrize(
    ("method", "dropout", "processes", "refused"),
    [
        ("lora", 0.1, 2, True),
        ("dora", 0.1, 2, True),
        ("lora", 0.0, 2, False),
        ("lora", 0.1, 1, False),
        ("prefix", 0.1, 2, False),  # has no dropout
    ],
)
def test_only_adapters_with_dropout_need_one_process(method, dropout, processes, refused):
    knobs = tune(method=method, dropout=dropout), compute(processes=processes)
    with pytest.raises(ParamsError) if refused else contextlib.nullcontext():
        require_same_result(*knobs)


def folders(root):
    return sorted(path.name for path in (root / ".work/train").glob("none-*"))


def test_what_an_unfinished_training_of_other_inputs_left_is_named_and_kept(stage, tmp_path):
    assert stage(lr=1e30)[0] == 43
    [diverged] = folders(tmp_path)
    checkpoint = tmp_path / ".work/train" / diverged / "fold0-seed0.checkpoints/step-00000001"
    checkpoint.mkdir(parents=True)

    code, said = stage(lr=1e29)
    assert code == 43
    assert f"begins anew: checkpoints of other inputs, code or libraries are in {tmp_path}" in said
    assert diverged in said
    assert len(folders(tmp_path)) == 2

    code, said = stage(lr=1e-3)
    assert code == 0, said
    assert diverged in said
    assert checkpoint.is_dir()
    assert len(folders(tmp_path)) == 3

    code, said = stage(lr=1e-3)  # control: the same inputs
    assert code == 0
    assert "finished in an earlier run" in said
    assert stage(lr=2e-3)[0] == 0
    code, said = stage(lr=1e-3)  # and back: no cell is trained twice
    assert code == 0
    assert "finished in an earlier run" in said
