"""Training tells what happens, to a file that it never waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medslm.files import read_json, sha256_of
from medslm.models import load_causal_lm
from medslm.student.feed import SUFFIX, Feed
from tests.student.test_tuning import run, trained


@pytest.fixture
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_a_cell_says_every_step_every_epoch_and_its_end(loaded, tmp_path):
    [cell] = run(loaded, tmp_path)

    said = events(tmp_path / f"{cell.name}{SUFFIX}")

    steps = [event for event in said if event["kind"] == "step"]
    epochs = [event for event in said if event["kind"] == "epoch"]
    assert [event["step"] for event in steps] == list(range(1, 16))
    assert [event["values"]["dev_loss"] for event in epochs] == [r.dev_loss for r in cell.history]
    assert [event["kind"] for event in said][-1] == "end"
    assert all(event["values"]["examples"] == 4 for event in steps)
    assert steps[0]["values"]["learning_rate"] > 0


def test_what_a_cell_ran_on_is_kept_where_no_stage_depends_on_it(loaded, tmp_path):
    """Another number of threads may give other last digits: who compares two runs can see it."""
    import torch

    mine = torch.get_num_threads()
    [cell] = run(loaded, tmp_path / "1")
    try:
        torch.set_num_threads(mine + 1)
        [other] = run(loaded, tmp_path / "2")
    finally:
        torch.set_num_threads(mine)

    for trained_cell, threads in ((cell, mine), (other, mine + 1)):
        first = events(trained_cell.folder.with_name(f"{cell.name}{SUFFIX}"))[0]
        assert (first["kind"], first["step"]) == ("begin", 0)
        assert first["values"] == {"threads": threads, "processes": 1}
        kept = read_json(trained_cell.folder / "cell.json")
        assert (kept["threads"], kept["processes"]) == (threads, 1)


def test_the_adapter_is_the_same_whether_anybody_can_be_told_or_not(loaded, tmp_path, caplog):
    """A folder in the way of the feed's file is what a full or broken disk is to it."""
    [told] = run(loaded, tmp_path / "1")
    (tmp_path / f"2/fold0-seed0{SUFFIX}").mkdir(parents=True)
    [untold] = run(loaded, tmp_path / "2")
    [other] = run(loaded, tmp_path / "3", seeds=[1])

    def weights(cell):
        return sha256_of(cell.folder / "adapter_model.safetensors")

    assert weights(told) == weights(untold) != weights(other)
    assert caplog.text.count("trained without being shown") == 1


def test_a_full_disk_ends_the_feed_with_one_warning(caplog):
    with Feed(Path("/dev/full")) as feed:
        feed.step(1, loss=1.0, learning_rate=0.1, examples=8)
        feed.step(2, loss=1.0, learning_rate=0.1, examples=8)
        feed.end(2)

    assert caplog.text.count("No space left") == 1


def test_a_line_that_a_kill_has_cut_does_not_spoil_the_next(tmp_path):
    path = tmp_path / f"cell{SUFFIX}"
    path.write_text('{"kind": "st')

    with Feed(path) as feed:
        feed.end(3)

    cut, whole = [line for line in path.read_text().splitlines() if line]
    assert cut == '{"kind": "st'
    assert json.loads(whole)["kind"] == "end"


def test_a_cell_without_a_feed_trains_in_silence(loaded, tmp_path):
    result = trained(loaded, None)

    assert len(result.history) == 3
    assert not list(tmp_path.glob(f"**/*{SUFFIX}"))
