"""Training histories are read strictly and averaged over students."""

from __future__ import annotations

import pytest

from medslm.errors import DataError
from medslm.evaluation.curves import COLUMNS, Epoch, Point, limits, mean_curve, read_history
from tests.evaluation.worlds import history

HEAD = ",".join(COLUMNS)


def epoch(number, *, seed=0, step=None, train=1.0, dev=1.0):
    step = number * 10 if step is None else step
    return Epoch(0, seed, number, step, train, dev)


def test_a_history_is_read_in_full(tmp_path):
    (tmp_path / "none.csv").write_text(history(epochs=3, seeds=(0, 1)))

    epochs = read_history(tmp_path / "none.csv")

    assert len(epochs) == 6
    assert epochs[0] == Epoch(0, 0, 1.0, 8, 1.15, 0.97)


def test_an_empty_cell_is_not_zero(tmp_path):
    (tmp_path / "none.csv").write_text(f"{HEAD}\n0,0,0,0,,1.1,0.5,0.3,\n")

    assert read_history(tmp_path / "none.csv")[0].train_loss is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"none\.csv:1: the columns are not"),
        ("epoch,loss\n1,2\n", r"none\.csv:1: the columns are not fold,seed"),
        (f"{HEAD}\n", "holds no epoch"),
        (f"{HEAD}\n0,0,1,8,1.0\n", r"none\.csv:2: has 5 cells, expected 9"),
        (f"{HEAD}\n0,0,1,8,x,1,1,1,1\n", r"none\.csv:2: train_loss: 'x' is not a number"),
        (f"{HEAD}\n0,0,1,8,1,nan,1,1,1\n", r"none\.csv:2: dev_loss: 'nan' is not finite"),
        (f"{HEAD}\n0,0,,8,1,1,1,1,1\n", r"none\.csv:2: epoch: is empty"),
    ],
)
def test_a_damaged_history_is_named_with_its_line(tmp_path, text, told):
    (tmp_path / "none.csv").write_text(text)

    with pytest.raises(DataError, match=told):
        read_history(tmp_path / "none.csv")


def test_a_missing_or_binary_history_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_history(tmp_path / "none.csv")
    (tmp_path / "none.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a UTF-8 text file"):
        read_history(tmp_path / "none.csv")


def test_the_curve_is_the_mean_over_students():
    rows = [epoch(1, seed=0, dev=1.0), epoch(1, seed=1, dev=2.0), epoch(2, seed=0, dev=0.5)]

    assert mean_curve(rows) == [Point(1, 1.0, 1.5), Point(2, 1.0, 0.5)]


def test_the_order_of_rows_changes_nothing_but_their_numbers_do():
    rows = [epoch(1, seed=0, dev=1.0), epoch(1, seed=1, dev=2.0), epoch(2, train=None)]

    assert mean_curve(rows[::-1]) == mean_curve(rows)
    assert mean_curve([*rows[:2], epoch(2, train=0.1)]) != mean_curve(rows)


def test_the_last_step_of_an_epoch_counts():
    rows = [epoch(1, step=9, dev=0.7), epoch(1, step=3, dev=0.9)]

    assert mean_curve(rows) == [Point(1, 1.0, 0.7)]


def test_limits_enclose_every_loss():
    assert limits([[Point(1, 0.4, 0.9)], [Point(1, None, 1.3)]]) == (0.4, 1.3)
    assert limits([[Point(1, None, None)]]) == (0.0, 1.0)
