"""dvc.yaml, params.yaml, the stages and the README agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.code_deps import ROOT, code_deps, entries, needed_by_stage, stages

STAGES = stages()
FILES = sorted((ROOT / "stages").glob("*.py"))


def test_every_stage_file_is_used_and_every_used_one_exists():
    used = {file for stage in STAGES.values() for file in entries(stage["cmd"])}

    assert used == set(FILES)
    assert len(FILES) == 25


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_runs(name):
    assert code_deps(STAGES[name]) == needed_by_stage(STAGES[name])


def test_the_check_above_would_notice_a_missing_dependency():
    stage = dict(STAGES["split"])
    stage["deps"] = [dep for dep in stage["deps"] if dep != "src/medslm/data/split.py"]

    assert code_deps(stage) != needed_by_stage(stage)


def test_an_evaluation_change_trains_nothing():
    assert not any("evaluation" in dep for dep in STAGES["train"]["deps"])
    assert any("evaluation" in dep for dep in STAGES["score"]["deps"])


@pytest.mark.parametrize("name", STAGES)
def test_every_path_in_a_command_is_declared(name):
    """A path that a command names is an out, a dep, or a folder that holds deps.

    But for the report of `track`, which `runs` may delete: as its dep it would close a circle.
    """
    stage = STAGES[name]
    commands = [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]
    declared = {
        path
        for kind in ("deps", "outs", "metrics", "plots")
        for item in stage.get(kind, [])
        for path in ([item] if isinstance(item, str) else item)
    }
    for command in commands:
        for word in command.split():
            if word.startswith(("data/", "metrics/", "models/", "reports/", "predictions/")):
                inside = any(d.startswith(f"{word}/") for d in declared)
                deleted = (name, word) == ("runs", "reports/mlflow_runs.json")
                assert word in declared or inside or deleted, f"{name}: {word}"


@pytest.mark.parametrize("name", STAGES)
def test_every_metric_a_stage_depends_on_is_named_in_its_command(name):
    """A flag that slides into a comment leaves the dep behind and the page without its table.

    But for the gates, and `compare` for `runs`: to wait for one is all that is wanted of it.
    """
    stage = STAGES[name]
    commands = [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]
    words = {word for command in commands for word in command.split()}
    read = [dep for dep in stage.get("deps", []) if dep.startswith("metrics/")]
    waited_for = ("metrics/gate", *["metrics/compare"] * (name == "runs"))
    read = [dep for dep in read if not dep.startswith(waited_for)]

    for dep in read:
        assert words & {dep, *(p.as_posix() for p in Path(dep).parents)}, f"{name}: {dep}"


def test_every_stage_says_what_it_does_and_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for name, stage in STAGES.items():
        assert stage["desc"]
        assert f"| `{name}" in readme, name


def test_metrics_and_curves_are_kept_in_git():
    for name, stage in STAGES.items():
        for kind in ("metrics", "plots"):
            for item in stage.get(kind, []):
                if isinstance(item, dict):
                    [options] = item.values()
                    assert options["cache"] is False, name


def test_names_in_params_have_no_dots():
    """DVC reads a dot in a foreach key as a path."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    sections = ("asks", "answers", "variants", "teachers")
    names = [name for section in sections for name in params[section]]
    assert len(names) >= 6
    assert not [name for name in names if "." in name]
