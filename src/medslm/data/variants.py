"""The section `variants` of params.yaml: the asks of a training set, and controls of equal length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

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


Variant = list[Name] | Control
Variants = dict[Name, Variant]


def asks_of(variant: Variant | Mapping[str, Any]) -> list[str]:
    """Return the asks of an entry: read as `Variants` or raw from YAML."""
    if isinstance(variant, Control):
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
            "variant that is a plain list of asks"
        )
    return variant.as_many_as
