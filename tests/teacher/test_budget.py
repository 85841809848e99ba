from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from medslm.teacher.budget import Budget


def test_what_fits_is_reserved_to_the_last_micro_dollar():
    budget = Budget(100, 40)

    assert budget.reserve(60)
    assert (budget.spent, budget.reserved, budget.left) == (40, 60, 0)
    assert not budget.reserve(1)
    assert budget.reserve(0)


def test_what_does_not_fit_changes_nothing():
    budget = Budget(100, 40)

    assert not budget.reserve(61)

    assert (budget.spent, budget.reserved, budget.left) == (40, 0, 60)


def test_reservations_count_until_they_end():
    budget = Budget(100, 0)
    assert budget.reserve(60)
    assert not budget.reserve(60)

    budget.settle(60, 10)

    assert (budget.spent, budget.reserved, budget.left) == (10, 0, 90)
    assert budget.reserve(60)


def test_a_released_reservation_costs_nothing():
    budget = Budget(100, 5)
    assert budget.reserve(60)

    budget.release(60)

    assert (budget.spent, budget.reserved, budget.left) == (5, 0, 95)


def test_part_of_what_is_reserved_may_end():
    budget = Budget(100, 0)
    assert budget.reserve(30)
    assert budget.reserve(20)

    budget.settle(30, 30)
    budget.release(20)

    assert (budget.spent, budget.reserved) == (30, 0)


def test_without_a_cap_everything_fits_and_is_counted():
    budget = Budget(None, 7)

    assert budget.reserve(10**15)
    budget.settle(10**15, 3)

    assert (budget.spent, budget.reserved, budget.left) == (10, 0, None)


def test_a_bill_above_its_reservation_counts_and_stops_everything_once_the_cap_is_passed():
    budget = Budget(100, 0)
    assert budget.reserve(10)

    budget.settle(10, 101)

    assert (budget.spent, budget.left) == (101, 0)
    assert not budget.reserve(0)


def test_a_budget_that_was_overspent_before_reserves_nothing():
    budget = Budget(100, 200)

    assert budget.left == 0
    assert not budget.reserve(0)


def test_a_cap_of_nothing_lets_what_is_free_pass():
    budget = Budget(0, 0)

    assert budget.reserve(0)
    assert not budget.reserve(1)


@pytest.mark.parametrize(("cap", "spent"), [(-1, 0), (0, -1), (None, -1)])
def test_a_budget_is_not_negative(cap, spent):
    with pytest.raises(ValueError, match=r"^a budget and what was spent of it are not negative"):
        Budget(cap, spent)


def test_amounts_are_not_negative():
    budget = Budget(100, 0)
    assert budget.reserve(10)

    with pytest.raises(ValueError, match="-1 micro-dollars: an amount is not negative"):
        budget.reserve(-1)
    with pytest.raises(ValueError, match="not negative"):
        budget.release(-1)
    with pytest.raises(ValueError, match="not negative"):
        budget.settle(10, -1)
    with pytest.raises(ValueError, match="not negative"):
        budget.settle(-1, 10)
    assert (budget.spent, budget.reserved) == (0, 10)


def test_what_was_not_reserved_cannot_end():
    budget = Budget(100, 0)
    assert budget.reserve(10)

    with pytest.raises(ValueError, match="11 micro-dollars were not reserved, 10 are"):
        budget.settle(11, 5)
    with pytest.raises(ValueError, match="11 micro-dollars were not reserved, 10 are"):
        budget.release(11)
    assert (budget.spent, budget.reserved) == (0, 10)


class Spending(RuleBasedStateMachine):
    """Any order of reservations and their ends, against a plain count of the same."""

    in_flight = Bundle("in_flight")

    @initialize(cap=st.none() | st.integers(0, 1_000), spent=st.integers(0, 600))
    def open(self, cap, spent):
        self.budget = Budget(cap, spent)
        self.cap = cap
        self.spent = spent
        self.open_reservations: list[int] = []
        self.overspent = cap is not None and spent > cap  # by an earlier run
        self.was_overspent = self.overspent

    @rule(target=in_flight, micros=st.integers(0, 400))
    def reserve(self, micros):
        fits = self.cap is None or self.spent + sum(self.open_reservations) + micros <= self.cap

        assert self.budget.reserve(micros) is fits
        if self.overspent:
            assert not fits
        if not fits:
            return multiple()
        self.open_reservations.append(micros)
        return micros

    @rule(reserved=consumes(in_flight), share=st.floats(0, 1))
    def settle_within(self, reserved, share):
        self._end(reserved, int(reserved * share))

    @rule(reserved=consumes(in_flight), more=st.integers(1, 300))
    def settle_above(self, reserved, more):
        self._end(reserved, reserved + more)
        self.was_overspent = True

    @rule(reserved=consumes(in_flight))
    def release(self, reserved):
        self.budget.release(reserved)
        self.open_reservations.remove(reserved)

    def _end(self, reserved, charged):
        self.budget.settle(reserved, charged)
        self.open_reservations.remove(reserved)
        self.spent += charged
        self.overspent = self.cap is not None and self.spent > self.cap

    @invariant()
    def counts_agree_and_the_cap_holds(self):
        if not hasattr(self, "budget"):
            return
        reserved = sum(self.open_reservations)
        assert (self.budget.spent, self.budget.reserved) == (self.spent, reserved)
        if self.cap is None:
            assert self.budget.left is None
        elif not self.was_overspent:
            assert self.spent + reserved <= self.cap
            assert self.budget.left == self.cap - self.spent - reserved


test_the_cap_holds_in_any_order = Spending.TestCase
