"""dvc.lock is read as it is, and its fingerprint changes with everything that matters and nothing else."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medslm.errors import DataError
from medslm.files import write_text
from medslm.tracking.lockfile import fingerprint, md5_in_lock, md5_of, read_lock

HAS = {"asks": ["new"], "variants": ["none"], "answers": []}
LOCK = {
    "train@none": {
        "cmd": "python stages/train.py",
        "deps": [{"path": "data/mix/none.jsonl", "hash": "md5", "md5": "a" * 32, "size": 10}],
        "params": {"params.yaml": {"tune": {"lr": 0.001}}},
        "outs": [{"path": "models/none", "hash": "md5", "md5": f"{'b' * 32}.dir", "size": 20}],
    },
    "other": {"cmd": "python stages/other.py"},
}


def changed(path: list[str | int], value: object) -> dict:
    lock = copy.deepcopy(LOCK)
    place = lock["train@none"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return lock


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["cmd"], "python stages/train.py --fast"),
        (["deps", 0, "md5"], "c" * 32),
        (["deps", 0, "path"], "data/mix/new.jsonl"),
        (["outs", 0, "md5"], "c" * 32),
        (["params", "params.yaml", "tune", "lr"], 0.002),
    ],
)
def test_a_fingerprint_changes_with_what_a_stage_ran_read_or_wrote(path, value):
    assert fingerprint(changed(path, value), ["train@none"]) != fingerprint(LOCK, ["train@none"])


@pytest.mark.parametrize(("path", "value"), [(["deps", 0, "size"], 99), (["outs", 0, "nfiles"], 2)])
def test_a_fingerprint_keeps_when_only_sizes_change_or_other_stages(path, value):
    lock = {**changed(path, value), "other": {"cmd": "changed"}}

    assert fingerprint(lock, ["train@none"]) == fingerprint(LOCK, ["train@none"])


@given(st.permutations(["train@none", "other"]))
def test_the_order_of_stages_does_not_matter(names):
    assert fingerprint(LOCK, names) == fingerprint(LOCK, sorted(names))


def test_results_of_one_stage_are_told_apart_by_what_they_are_about():
    one, other = (fingerprint(LOCK, ["other"], about=name) for name in ("majority", "zero-shot"))

    assert one != other
    assert one != fingerprint(LOCK, ["other"])


def test_a_path_inside_a_tracked_folder_has_the_folders_hash():
    assert md5_in_lock(LOCK, "models/none/fold0-seed0/x") == f"{'b' * 32}.dir"
    assert md5_in_lock(LOCK, "models/none") == f"{'b' * 32}.dir"
    assert md5_in_lock(LOCK, "models/nonesuch") is None


def test_what_a_removed_variant_left_in_the_lock_names_no_bytes(tmp_path):
    """DVC appends new stages and keeps those of removed ones, with the hashes of their time."""
    text = "stages:\n" + "".join(
        f"  score@{name}:\n    cmd: x\n    deps: [{{path: data/split/dev.jsonl, md5: {md5}}}]\n"
        for name, md5 in (("none", "new"), ("gone", "old"))
    )
    write_text(tmp_path / "dvc.lock", text)

    here = read_lock(tmp_path / "dvc.lock", HAS)
    then = read_lock(tmp_path / "dvc.lock", {**HAS, "variants": ["none", "gone"]})

    assert md5_in_lock(here, "data/split/dev.jsonl") == "new"
    assert md5_in_lock(then, "data/split/dev.jsonl") == "old"


def test_who_wrote_a_file_knows_its_hash_better_than_who_read_it():
    wrote = {"cmd": "x", "outs": [{"path": "data/a", "md5": "new"}]}
    read = {"cmd": "x", "deps": [{"path": "data/a", "md5": "old"}]}

    assert md5_in_lock({"write": wrote, "read": read}, "data/a") == "new"
    assert md5_in_lock({"read": read}, "data/a") == "old"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        "schema: '2.0'\nstages: [1]\n",
        "stages: {a: {deps: []}}\n",
        "<<<<<<< ours\nstages: {}\n",
        "a: [\n",
        "!!python/object/apply:os.system ['true']\n",
    ],
)
def test_a_lock_that_is_cut_merged_or_something_else_is_one_line(tmp_path, text):
    write_text(tmp_path / "dvc.lock", text)

    with pytest.raises(DataError, match=r"dvc\.lock: not a dvc\.lock") as caught:
        read_lock(tmp_path / "dvc.lock", HAS)
    assert "\n" not in str(caught.value)


def test_a_folders_hash_changes_with_a_name_and_with_a_byte(tmp_path):
    for name, file, text in (("a", "x", "1"), ("b", "y", "1"), ("c", "x", "2"), ("d", "x", "1")):
        write_text(tmp_path / name / file, text)

    a, b, c, d = (md5_of(tmp_path / name) for name in "abcd")

    assert len({a, b, c}) == 3
    assert a == d
    assert a.endswith(".dir")


def test_the_answers_yes_and_no_are_names_in_a_lock_as_dvc_writes_it(tmp_path):
    """DVC writes YAML 1.2, where they need no quotes; in 1.1 they are booleans."""
    shares = "{yes: 0.45, no: 0.35, maybe: 0.2}"
    text = (
        f"stages:\n  ask@new:\n    cmd: x\n    params:\n      params.yaml:\n        a: {shares}\n"
    )
    write_text(tmp_path / "dvc.lock", text)
    other = text.replace("no: 0.35", "false: 0.35")
    write_text(tmp_path / "other.lock", other)

    lock = read_lock(tmp_path / "dvc.lock", HAS)

    assert lock["ask@new"]["params"]["params.yaml"]["a"] == {"yes": 0.45, "no": 0.35, "maybe": 0.2}
    assert len(fingerprint(lock, ["ask@new"])) == 64
    assert False in read_lock(tmp_path / "other.lock", HAS)["ask@new"]["params"]["params.yaml"]["a"]
