"""The sections `student` and `tune` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medslm.models import Dtype
from medslm.params import Section


class StudentParams(Section):
    """Which model is tuned and how it reads; params.yaml says what each knob does."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None
    dtype: Dtype
    max_tokens: Annotated[int, Field(ge=64)]
    batch_size: Annotated[int, Field(ge=1)]


class TuneParams(Section):
    """How it is tuned; params.yaml says what each knob does."""

    method: Literal["lora"]
    r: Annotated[int, Field(ge=1)]
    alpha: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]
    layers: Annotated[str, Field(pattern=r"^(all|top-[1-9][0-9]*)$")]
    lr: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    reuse_frozen: bool
    checkpoint_every_s: Annotated[float, Field(ge=0)]
