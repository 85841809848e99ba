"""The sections `student`, `tune` and `compute` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medslm.errors import ParamsError
from medslm.models import Dtype, Quantize
from medslm.params import Section
from medslm.student.curriculum import Objective, Order, Practice


class StudentParams(Section):
    """Which model is tuned and how it reads; params.yaml says what each knob does."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None
    dtype: Dtype
    max_tokens: Annotated[int, Field(ge=64)]
    batch_size: Annotated[int, Field(ge=1)]


class TuneParams(Section):
    """How it is tuned; params.yaml says what each knob does."""

    method: Literal["lora", "dora", "prefix", "full"]
    r: Annotated[int, Field(ge=1)]
    alpha: Annotated[int, Field(ge=1)]
    rslora: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)]
    virtual_tokens: Annotated[int, Field(ge=1)]
    prefix_init: Literal["zero", "text"]
    quantize: Quantize
    layers: Annotated[str, Field(pattern=r"^(all|top-[1-9][0-9]*)$")]
    lr: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    accumulate: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    objective: Objective
    order: Order
    real_weight: Annotated[float, Field(gt=0)]
    patience: Annotated[int, Field(ge=1)] | None
    reuse_frozen: bool
    checkpoint_every_s: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _trains_what_can_be_trained(self) -> Self:
        if self.method == "full" and self.quantize is not None:
            raise ValueError(
                f"quantize: {self.quantize} freezes the base and method: full trains it; set one of them"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_felt(self) -> Self:
        """AdamW divides by the size of the gradient, so a weight shows only where batches are mixed."""
        if self.order == "synthetic-first" and self.real_weight != 1:
            raise ValueError(
                "real_weight changes nothing with order: synthetic-first, whose batches are never "
                "mixed; set it to 1.0 or order to mixed"
            )
        return self

    def practice(self) -> Practice:
        """Return the knobs about little data together."""
        return Practice(self.order, self.real_weight, self.patience, self.objective)


class ComputeParams(Section):
    """Where cells are trained, at the same result (see below); params.yaml says what each knob does."""

    engine: Literal["local", "ray"]
    address: str | None
    cpus_per_cell: Annotated[int, Field(ge=1)] | None
    gpus_per_cell: Annotated[float, Field(ge=0)]
    retries: Annotated[int, Field(ge=0)]
    processes: Annotated[int, Field(ge=1)]
    strategy: Literal["ddp", "fsdp"]
    max_hours: Annotated[float, Field(gt=0)]


def require_same_result(tune: TuneParams, compute: ComputeParams) -> None:
    """Raise ParamsError if several processes would train another adapter than one.

    Dropout is drawn for a whole batch at once; parts of it, each padded to its own length, cannot draw
    the same masks.
    """
    drops = tune.dropout > 0 and tune.method in ("lora", "dora")
    if drops and compute.processes > 1:
        raise ParamsError(
            f"compute.processes: {compute.processes} would draw other masks than one process with "
            f"tune.dropout: {tune.dropout:g}, so train another adapter; set processes to 1 or dropout to 0"
        )
