"""One step cut into passes, or shared by processes, is the same step."""

from __future__ import annotations

import pytest

from medslm.models import load_causal_lm
from medslm.student.batches import micro_batches
from medslm.student.cells import CellTrainer, trained
from medslm.student.group import Alone
from tests.student.cells_world import close, inputs, jobs


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def train(loaded, tiny_llama, work, group=None, **changes):
    [job, _] = jobs(0)
    world = inputs(tiny_llama, work, dropout=0.0, **changes)
    CellTrainer(loaded, world, group).train(job)
    return trained(work, job)


@pytest.mark.parametrize(
    ("rows", "count", "sizes"), [(8, 2, [4, 4]), (5, 2, [3, 2]), (2, 4, [1, 1])]
)
def test_micro_batches_keep_every_row_and_are_never_empty(rows, count, sizes):
    found = micro_batches(range(rows), count)

    assert [row for part in found for row in part] == list(range(rows))
    assert [len(part) for part in found] == sizes


def test_accumulated_passes_make_the_step_of_the_whole_batch(loaded, tiny_llama, tmp_path):
    whole = train(loaded, tiny_llama, tmp_path / "1")
    cut = train(loaded, tiny_llama, tmp_path / "2", accumulate=3)
    smaller = train(loaded, tiny_llama, tmp_path / "3", batch_size=2)

    assert close(whole, cut, 1e-4)
    assert [row.step for row in cut.history] == [row.step for row in whole.history] == [5, 10, 15]
    assert not close(whole, smaller, 1e-4)


class Deaf(Alone):
    """A process of two that never hears of the other's gradients."""

    size = 2

    def share(self, rows):
        return list(rows[::2])


def test_half_of_each_batch_without_the_other_half_is_another_training(
    loaded, tiny_llama, tmp_path
):
    """Control for the tests with two processes: leaving the sum out would show."""
    whole = train(loaded, tiny_llama, tmp_path / "1")
    half = train(loaded, tiny_llama, tmp_path / "2", Deaf())

    assert not close(whole, half, 1e-2)
