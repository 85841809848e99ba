"""A cap on spending that holds before the money is gone: reserve, send, settle."""

from __future__ import annotations


class Budget:
    """Micro-dollars of one teacher. Spent and reserved never pass the cap while bills keep to theirs.

    A server that bills more than was reserved can pass it once; from then on nothing is reserved.
    """

    def __init__(self, cap_micros: int | None, spent_micros: int) -> None:
        if spent_micros < 0 or (cap_micros is not None and cap_micros < 0):
            raise ValueError("a budget and what was spent of it are not negative")
        self._cap = cap_micros
        self._spent = spent_micros
        self._reserved = 0

    @property
    def spent(self) -> int:
        """What was charged, in earlier runs too."""
        return self._spent

    @property
    def reserved(self) -> int:
        """What the requests in flight can cost at most."""
        return self._reserved

    @property
    def left(self) -> int | None:
        """What may still be reserved; None without a cap."""
        if self._cap is None:
            return None
        return max(0, self._cap - self._spent - self._reserved)

    def reserve(self, micros: int) -> bool:
        """Set aside the most that a request can cost; False, and nothing changes, if it does not fit."""
        _require(micros)
        if self._cap is not None and self._spent + self._reserved + micros > self._cap:
            return False
        self._reserved += micros
        return True

    def settle(self, reserved: int, charged: int) -> None:
        """Exchange a reservation for what its request cost."""
        _require(charged)
        self.release(reserved)
        self._spent += charged

    def release(self, reserved: int) -> None:
        """Give a reservation back whose request cost nothing."""
        _require(reserved)
        if reserved > self._reserved:
            raise ValueError(f"{reserved} micro-dollars were not reserved, {self._reserved} are")
        self._reserved -= reserved


def _require(micros: int) -> None:
    if micros < 0:
        raise ValueError(f"{micros} micro-dollars: an amount is not negative")
