"""Which code begins a training anew, and what happens to the checkpoints of other inputs."""

from __future__ import annotations

import shutil

import pytest

from medslm.student.workfolders import code_identity, shaping, tell_of_others
from tests.code_deps import ROOT, needed_by

NEW, OLD, OLDER = "none-" + "a" * 16, "none-" + "b" * 16, "none-" + "c" * 16


@pytest.fixture
def package(tmp_path):
    copy = tmp_path / "medslm"
    shutil.copytree(ROOT / "src/medslm", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize(
    ("file", "anew"),
    [
        ("student/tuning.py", True),
        ("student/fused.py", True),
        ("student/full.py", True),  # imported by name from the room, and inside functions
        ("student/prompting.py", True),
        ("student/group.py", True),
        ("student/sharding.py", True),
        ("models.py", True),
        ("student/plan_table.py", False),
        ("student/on_ray.py", False),
        ("student/progress.py", False),
        ("student/feed.py", False),
        ("student/shared_scoring.py", False),
        ("quality/rules.py", False),
    ],
)
def test_only_code_that_shapes_an_adapter_begins_it_anew(package, file, anew):
    before = code_identity(package)
    assert before == code_identity()

    with (package / file).open("a", encoding="utf-8") as source:
        source.write("\n# another line\n")

    assert (code_identity(package) != before) is anew


def test_what_shapes_an_adapter_is_what_training_imports():
    imported = needed_by(ROOT / "src/medslm/student/cells.py")
    imported |= needed_by(ROOT / "src/medslm/student/sharding.py")
    room = {
        f.removeprefix("src/medslm/") for f in imported if "/student/" in f or "/models.py" in f
    }

    only_tell = {"student/feed.py", "student/memory.py", "student/progress.py"}
    assert set(shaping(ROOT / "src/medslm")) == room - only_tell


def begun(folder):
    (folder / "fold0-seed0.checkpoints/step-00000007").mkdir(parents=True)


def test_checkpoints_of_other_inputs_are_named_when_training_begins_anew(tmp_path, caplog):
    begun(tmp_path / OLD)
    (tmp_path / OLDER / "fold0-seed0").mkdir(parents=True)  # finished, nothing was lost
    begun(tmp_path / f"none-long-{'b' * 16}")  # another variant

    tell_of_others(tmp_path / NEW)

    assert (
        f"begins anew: checkpoints of other inputs, code or libraries are in {tmp_path / OLD};"
        in (caplog.text)
    )
    caplog.clear()
    begun(tmp_path / NEW)
    tell_of_others(tmp_path / NEW)  # it goes on from its own
    tell_of_others(tmp_path / ("new-" + "a" * 16))  # none of this variant
    assert caplog.text == ""
