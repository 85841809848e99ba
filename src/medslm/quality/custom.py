"""Expectations of our own, where those of Great Expectations stop.

Its built-in ones let pass a text of blanks, an infinite number, and the same text written twice in
different Unicode forms, and they do not say how often each answer occurs.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

from medslm.quality.text import fold


def has_text(value: object) -> bool:
    """Tell whether a text holds a letter or digit: blanks and invisible characters are none."""
    return any(char.isalnum() for char in fold(str(value)))


def is_finite(value: object) -> bool:
    """Tell whether a number is one: neither infinite nor NaN."""
    return isinstance(value, (int, float)) and math.isfinite(value)


@functools.cache
def kinds() -> dict[str, Any]:
    """Return the classes by name; Great Expectations registers them as they are made."""
    return {kind.__name__: kind for kind in (*_of_values(), *_of_answers())}


def _of_values() -> tuple[Any, ...]:
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.metrics import (
        ColumnMapMetricProvider,
        column_condition_partial,
    )

    class HaveText(ColumnMapMetricProvider):  # type: ignore[misc]  # untyped library
        condition_metric_name = "column_values.medslm_have_text"

        @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
        def _pandas(cls, column: Any, **_: Any) -> Any:
            return column.map(has_text).astype(bool)

    class Finite(ColumnMapMetricProvider):  # type: ignore[misc]
        condition_metric_name = "column_values.medslm_finite"

        @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
        def _pandas(cls, column: Any, **_: Any) -> Any:
            return column.map(is_finite).astype(bool)

    class UniqueOnceFolded(ColumnMapMetricProvider):  # type: ignore[misc]
        condition_metric_name = "column_values.medslm_unique_once_folded"

        @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
        def _pandas(cls, column: Any, **_: Any) -> Any:
            return ~column.map(lambda value: fold(str(value))).duplicated(keep=False)

    class ExpectColumnValuesToHaveText(ColumnMapExpectation):  # type: ignore[misc]
        """Every value holds a letter or digit."""

        map_metric = "column_values.medslm_have_text"

    class ExpectColumnValuesToBeFinite(ColumnMapExpectation):  # type: ignore[misc]
        """Every value is a finite number."""

        map_metric = "column_values.medslm_finite"

    class ExpectColumnValuesToBeUniqueOnceFolded(ColumnMapExpectation):  # type: ignore[misc]
        """No two values are the same text up to case, blanks and Unicode form."""

        map_metric = "column_values.medslm_unique_once_folded"

    return (
        ExpectColumnValuesToHaveText,
        ExpectColumnValuesToBeFinite,
        ExpectColumnValuesToBeUniqueOnceFolded,
    )


def _of_answers() -> tuple[Any, ...]:
    from great_expectations.expectations.expectation import ColumnAggregateExpectation

    class _Counted(ColumnAggregateExpectation):  # type: ignore[misc]
        answers: list[str]
        metric_dependencies = ("column.value_counts",)
        success_keys = ("answers", "max_share")

        def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
            counts = Counter({str(k): int(n) for k, n in metrics["column.value_counts"].items()})
            known = {answer: counts[answer] for answer in self.answers}
            observed = ", ".join(f"{answer} {count}" for answer, count in known.items())
            return {"success": self._holds(known), "result": {"observed_value": observed}}

        def _holds(self, counts: dict[str, int]) -> bool:
            raise NotImplementedError

    class ExpectEveryAnswer(_Counted):
        """Every answer occurs."""

        def _holds(self, counts: dict[str, int]) -> bool:
            return all(counts.values())

    class ExpectNoAnswerToDominate(_Counted):
        """There are answers, and none has more than a share of them."""

        max_share: float

        def _holds(self, counts: dict[str, int]) -> bool:
            total = sum(counts.values())
            return total > 0 and max(counts.values()) <= self.max_share * total

    return ExpectEveryAnswer, ExpectNoAnswerToDominate
