"""The verdict on all variants: the table, the choice, and paired tests of every difference in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medslm.data.records import Answer, Prediction
from medslm.data.variants import Control, Variant
from medslm.evaluation.compare import choose, compare, require_names
from medslm.evaluation.paired import differences
from medslm.evaluation.rows import Comparison, Metric
from medslm.evaluation.sheet import Sheet


def verdict(
    sheets: Mapping[str, Sheet],
    predictions: Mapping[str, Sequence[Prediction]],
    gold: Mapping[str, Answer],
    *,
    variants: Mapping[str, Variant],
    baselines: Sequence[str],
    metric: Metric,
) -> Comparison:
    """Choose on dev, then test on the test questions what the choice is worth; see `compare`."""
    require_names(list(variants), baselines)
    chosen = choose(sheets, variants=list(variants), metric=metric)
    return compare(
        sheets,
        variants=list(variants),
        baselines=baselines,
        metric=metric,
        controls=controls_of(variants),
        differences=differences(
            predictions,
            pairs_to_test(list(variants), baselines, chosen),
            gold,
            split="test",
            untrained=baselines,
        ),
    )


def pairs_to_test(
    variants: Sequence[str], baselines: Sequence[str], chosen: str
) -> list[tuple[str, str]]:
    """Return each variant with all before it, and the chosen one with each baseline."""
    grid = [(one, other) for at, one in enumerate(variants) for other in variants[:at]]
    return grid + [(chosen, baseline) for baseline in baselines]


def controls_of(variants: Mapping[str, Variant]) -> dict[str, str]:
    """Return, for each variant that has one, the variant of as many rows without generated data."""
    return {
        entry.as_many_as: name
        for name, entry in variants.items()
        if isinstance(entry, Control) and not entry.asks
    }
