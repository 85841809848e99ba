"""The sweep through real DVC experiments in a repository of one stage, and its figure."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from medslm.errors import DataError, ParamsError
from medslm.evaluation import robustness
from medslm.params import load_section
from medslm.tracking.sweep import SweepParams, experiments, points, queue, seen
from tests.code_deps import ROOT
from tests.project import BIN, MEDSLM

PARAMS = """\
tune: {method: full, r: 8, alpha: 1, virtual_tokens: 1, lr: 0.1}
sweep:
  variant: none
  lines:
    lora: {knob: alpha, values: [16, 64, 666], fixed: {r: 4}}
    prefix: {knob: virtual_tokens, values: [32], fixed: {lr: 5.0e-5}}
"""
DVC_YAML = """\
stages:
  score:
    foreach: {none: []}
    do:
      cmd: python score.py
      params: [tune]
      metrics:
        - metrics/score/none.json: {cache: false}
"""
# Writes a score sheet whose numbers say which knobs it saw; refuses alpha 666.
SCORE = """\
from collections import Counter
from pathlib import Path

from medslm.data.records import ANSWERS
from medslm.evaluation.score import Pooled, part
from medslm.evaluation.sheet import Cell, Sheet, Spread, write_record
from medslm.params import load_value

tune = load_value(Path("params.yaml"), "tune")
if tune["alpha"] == 666:
    raise SystemExit("no such alpha")
hits = {"lora": tune["alpha"], "prefix": tune["virtual_tokens"]}[tune["method"]]
gold = {str(i): ANSWERS[i % 3] for i in range(120)}
answers = {p: Pooled(a if int(p) < hits else ANSWERS[(int(p) + 1) % 3], {}) for p, a in gold.items()}
found = part(answers, gold)
if tune["method"] == "lora":
    assert (tune["r"], tune["lr"]) == (4, 0.1), tune
else:
    assert (tune["r"], tune["lr"]) == (8, 5e-5), tune
scores = [found.accuracy, found.macro_f1] * 2
cell = Cell(fold=0, seed=0, dev_accuracy=scores[0], dev_macro_f1=scores[1],
            test_accuracy=scores[0], test_macro_f1=scores[1])
spread = Spread(cells=1, dev_accuracy_mean=scores[0], dev_accuracy_sd=None,
                dev_macro_f1_mean=scores[1], dev_macro_f1_sd=None,
                test_accuracy_mean=scores[0], test_accuracy_sd=None,
                test_macro_f1_mean=scores[1], test_macro_f1_sd=None)
sheet = Sheet(variant="none", test_set="own", test_digest="0", dev=found, test=found, spread=spread,
              bins=(), calibrated=None, cells=(cell,))
write_record(Path("metrics/score/none.json"), sheet)
"""


@pytest.fixture(scope="module")
def environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DVC_")}
    path = os.pathsep.join([str(BIN), kept["PATH"]])
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "DVC_NO_ANALYTICS": "1"}


def run(root, environment, *command):
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory, environment):
    root = tmp_path_factory.mktemp("sweep")
    environment["DVC_SITE_CACHE_DIR"] = str(root / ".dvc/tmp/site-cache")
    for name, text in (("params.yaml", PARAMS), ("dvc.yaml", DVC_YAML), ("score.py", SCORE)):
        (root / name).write_text(text)
    run(root, environment, "git", "init", "-q", "-b", "main")
    run(root, environment, sys.executable, "-m", "dvc", "init", "-q")
    run(root, environment, "git", "add", "--all")
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    run(root, environment, "git", *author, "commit", "-q", "-m", "start")
    return root


@pytest.fixture(scope="module")
def params(project):
    return load_section(project / "params.yaml", "sweep", SweepParams)


@pytest.fixture(scope="module")
def ran(project, params, environment):
    """The sweep queued and run by DVC; the names that were queued first and on a second call."""
    with pytest.raises(DataError, match=r"not queued.*medslm sweep queue"):
        points(project, params, environment)
    first = queue(project, params, environment)
    waiting = queue(project, params, environment)
    command = [sys.executable, "-m", "dvc", "exp", "run", "--run-all"]
    subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False)
    yield first, waiting
    run(project, environment, sys.executable, "-m", "dvc", "queue", "stop", "--kill")


def test_every_value_of_every_line_is_queued_once(params, ran):
    first, waiting = ran

    assert first == [e.name for e in experiments(params)]
    assert first[0] == "sweep-none-lora-alpha-16"
    assert len(first) == 4
    assert waiting == []


def test_finished_experiments_are_read_and_the_failed_one_is_named(
    project, params, environment, ran
):
    done, missing = points(project, params, environment)

    assert [(p.method, p.knob, p.value) for p in done] == [
        ("lora", "alpha", 16),
        ("lora", "alpha", 64),
        ("prefix", "virtual_tokens", 32),
    ]
    assert [round(p.accuracy * 120) for p in done] == [16, 64, 32]
    assert {p.n for p in done} == {120}
    assert missing == [
        "sweep-none-lora-alpha-666: failed, `dvc queue logs sweep-none-lora-alpha-666` says why"
    ]
    assert run(project, environment, "git", "status", "--porcelain") == ""


def test_the_figure_and_its_numbers_are_the_same_bytes_each_time(project, params, environment, ran):
    pictures = []
    for number in range(2):
        out = project / f"out{number}/robustness.svg"
        said = run(project, environment, MEDSLM, "sweep", "draw", "--out", str(out))
        assert "3 experiments, 1 missing" in said
        assert "missing: sweep-none-lora-alpha-666: failed" in said
        pictures.append((out.read_bytes(), out.with_suffix(".csv").read_bytes()))

    assert pictures[0] == pictures[1]
    text = " ".join(ElementTree.fromstring(pictures[0][0].decode()).itertext())
    for said in ("accuracy, lora", "macro-F1, prefix", "virtual tokens", "n = 120", "Guo et al."):
        assert said in text
    lines = pictures[0][1].decode().splitlines()
    assert lines[0] == robustness.COLUMNS
    assert lines[2].startswith("lora,alpha,64,120,0.533333,")
    plain = project / "plain.svg"
    run(project, environment, MEDSLM, "sweep", "draw", "--no-paper", "--out", str(plain))
    assert "Guo" not in plain.read_text()


def test_a_failed_experiment_is_queued_again_and_a_finished_one_is_not(
    project, params, environment, ran
):
    again = queue(project, params, environment)

    assert again == ["sweep-none-lora-alpha-666"]
    assert seen(project, environment)["sweep-none-lora-alpha-666"].state == "queued"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{knob: alfa, values: [1], fixed: {}}", r"tune\.alfa: there is no such knob"),
        ("{knob: alpha, values: [1], fixed: {rank: 2}}", r"tune\.rank: there is no such knob"),
        ("{knob: alpha, values: [], fixed: {}}", "at least 1 item"),
    ],
)
def test_a_knob_that_does_not_exist_is_named_before_anything_is_queued(tmp_path, line, named):
    (tmp_path / "params.yaml").write_text(f"sweep: {{variant: none, lines: {{lora: {line}}}}}\n")

    with pytest.raises(ParamsError, match=named):
        load_section(tmp_path / "params.yaml", "sweep", SweepParams)


def test_the_projects_own_sweep_has_the_papers_values():
    params = load_section(ROOT / "params.yaml", "sweep", SweepParams)

    for method, line in params.lines.items():
        assert list(robustness.CITED[method]) == line.values
    assert len(experiments(params)) == 12
    assert experiments(params)[-1].overrides() == [
        "tune.lr=0.005",
        'tune.method="prefix"',
        "tune.virtual_tokens=512",
    ]
