from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from medslm.student.batches import batches

lengths = st.lists(st.integers(1, 900), min_size=1, max_size=300)


@given(lengths, st.integers(1, 16), st.integers(0, 3), st.integers(0, 3))
def test_every_row_comes_once_and_the_order_repeats(found, size, seed, epoch):
    plan = batches(found, batch_size=size, seed=seed, epoch=epoch)

    assert sorted(row for batch in plan for row in batch) == list(range(len(found)))
    assert all(len(batch) <= size for batch in plan)
    assert plan == batches(found, batch_size=size, seed=seed, epoch=epoch)


def test_another_seed_or_epoch_gives_another_order():
    found = list(range(100, 200))

    orders = [batches(found, batch_size=8, seed=s, epoch=e) for s, e in [(0, 0), (1, 0), (0, 1)]]

    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_rows_of_a_batch_are_close_in_length_where_random_batches_are_not():
    found = [(i * 7919) % 600 + 60 for i in range(450)]

    def padding(plan):
        return sum(len(b) * max(found[i] for i in b) for b in plan) / sum(found)

    bucketed = padding(batches(found, batch_size=8, seed=0, epoch=0))
    random = padding([list(range(i, min(i + 8, 450))) for i in range(0, 450, 8)])

    assert bucketed < 1.08
    assert random > 1.4
