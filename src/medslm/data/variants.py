"""The section `variants` of params.yaml: asks of a training set, quotas, controls of equal length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from medslm.data.records import ANSWERS, Answer
from medslm.errors import ParamsError
from medslm.params import Section

Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")
]  # DVC reads a dot as a path


class Control(Section):
    """A variant whose examples are repeated up to as many rows as another variant has.

    Equal epochs are then equal numbers of optimiser steps, so that what augmentation brings is not
    mistaken for what longer training brings.
    """

    asks: list[Name]
    as_many_as: Name


class Balanced(Section):
    """A variant whose generated examples are thinned until no answer is above its quota of the whole.

    Quotas are shares of the training set, its real questions counted; one answer's quota alone is a cap.
    """

    asks: list[Name]
    quotas: Annotated[dict[Answer, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
    seed: int

    @field_validator("quotas")
    @classmethod
    def _leave_room(cls, quotas: dict[Answer, float]) -> dict[Answer, float]:
        if len(quotas) == len(ANSWERS) and sum(quotas.values()) < 1 - 1e-9:
            raise ValueError(
                f"quotas of all answers add up to {sum(quotas.values()):.6g}: no training set has "
                "such shares; let them add up to 1 or more"
            )
        return quotas


Variant = list[Name] | Control | Balanced
Variants = dict[Name, Variant]


def asks_of(variant: Variant | Mapping[str, Any]) -> list[str]:
    """Return the asks of an entry: read as `Variants` or raw from YAML."""
    if isinstance(variant, Control | Balanced):
        return list(variant.asks)
    return list(variant["asks"] if isinstance(variant, Mapping) else variant)


def length_of(variants: Mapping[str, Variant], name: str) -> str | None:
    """Return whose number of rows the variant takes, None for its own.

    Raises ParamsError if there is no such variant, or if it takes another's length itself, which
    also rules out circles.
    """
    variant = variants[name]
    if not isinstance(variant, Control):
        return None
    other = variants.get(variant.as_many_as)
    if other is None:
        raise ParamsError(
            f"variants.{name}.as_many_as: {variant.as_many_as!r} is not one of variants: "
            f"{sorted(set(variants) - {name})}"
        )
    if isinstance(other, Control):
        raise ParamsError(
            f"variants.{name}.as_many_as: {variant.as_many_as!r} has as_many_as itself: name a "
            "variant with a length of its own"
        )
    return variant.as_many_as
