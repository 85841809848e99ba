"""What tuning will take, stage by stage, before anything is loaded; and a refusal of what cannot end.

An estimate is operations (flops.py) over the rate of this machine's matrix products (machine.py) times
the share of it that a pass reaches. The shares and the memory were measured with SmolLM2-135M on two
cores of an AMD EPYC (Zen 4); docs/log.md has the runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from medslm.errors import TooLarge
from medslm.student import flops
from medslm.student.flops import Flops, Method, Recipe
from medslm.student.lora import adapted_layers
from medslm.student.machine import Machine
from medslm.student.padding import padded_width
from medslm.student.settings import StudentParams, TuneParams
from medslm.student.shapes import Shape

# Share of the machine's matrix products that a pass reaches, forward and backward: the rest are
# norms, activations, attention's softmax and thin products of the adapters.
_REACHED = {"bfloat16": (0.62, 0.60), "float32": (0.78, 0.70)}
# Importing torch, transformers and peft, finding and checking the weights; then reading them.
_START_S = 12.0
_READ_BYTES_PER_S = 0.5e9
# Resident memory of a process that has imported them and holds no model.
_PROCESS_BYTES = 0.8e9
# Saved for the backward pass, per token and trained layer, in values of the block's sides: inputs of
# the matrices, what the activation and the adapters keep, some of it in fp32.
_SAVED_VALUES = 2.5
# Length buckets leave 3 % padding, and lengths are rounded up to 32 (padding.py).
_PADDING = 1.03
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Workload:
    """How much there is to do: examples of each variant in one fold, prompts of one dev fold and of test.

    ``tokens`` is the mean length of a prompt, ``longest`` the greatest; ``distinct`` counts different
    prompts among all variants, dev and test.
    """

    examples: Mapping[str, int]
    dev: int
    test: int
    folds: int
    seeds: int
    tokens: float
    longest: int
    distinct: int

    @property
    def cells(self) -> int:
        """Adapters of each variant."""
        return self.folds * self.seeds


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one stage takes: operations, seconds, and bytes of memory and of disk."""

    stage: str
    flops: Flops
    seconds: float
    memory: float
    disk: float


def recipe_of(shape: Shape, tune: TuneParams) -> Recipe:
    """Return what is trained; ParamsError if the model has fewer layers than params.yaml names."""
    numbers = adapted_layers(shape.layers, tune.layers)
    trained = shape.layers if numbers is None else len(numbers)
    method: Method = tune.method
    if method == "prefix":
        trained = shape.layers
    cached = tune.reuse_frozen and trained < shape.layers
    return Recipe(
        method=method,
        r=tune.r,
        trained=trained,
        cached=cached,
        targets=None if tune.targets == "all-linear" else tuple(tune.targets),
        virtual_tokens=tune.virtual_tokens,
    )


def estimates(
    shape: Shape, student: StudentParams, tune: TuneParams, work: Workload, machine: Machine
) -> list[Estimate]:
    """Return what each stage from features to score takes on this machine, in the pipeline's order."""
    maker = _Maker(shape, student, tune, work, machine)
    found = [maker.features()] if maker.recipe.cached else []
    for name, examples in work.examples.items():
        found.append(maker.train(name, examples))
    found += [maker.predict(name) for name in work.examples]
    found.append(maker.baselines())
    return found + [Estimate(f"score@{name}", Flops(0), 1.0, 0.1e9, 2e5) for name in work.examples]


class _Maker:
    """Estimates of one model, setting and machine."""

    def __init__(
        self,
        shape: Shape,
        student: StudentParams,
        tune: TuneParams,
        work: Workload,
        machine: Machine,
    ) -> None:
        self.shape, self.student, self.tune, self.work = shape, student, tune, work
        self.machine = machine
        self.recipe = recipe_of(shape, tune)
        self.width = round(work.tokens * _PADDING)
        self.value = 2 if machine.dtype == "bfloat16" else 4

    def features(self) -> Estimate:
        """The layers below the trained ones, once per distinct prompt."""
        spent = flops.building(self.shape, self.recipe, self.width) * self.work.distinct
        states = self.work.distinct * self.work.tokens * self.shape.width * self.value
        # the states are computed in memory and stored as they are
        memory = self._held(self.shape.parameters, self.student.batch_size) + states
        return self._estimate("features", spent, memory, states)

    def train(self, name: str, examples: int) -> Estimate:
        """Every epoch of every cell, with the dev fold after each."""
        once = flops.step(self.shape, self.recipe, self.width) * examples
        once += flops.evaluation(self.shape, self.recipe, self.width) * self.work.dev
        spent = once * (self.tune.epochs * self.work.cells)
        trained = flops.trained_weights(self.shape, self.recipe)
        states = (examples + self.work.dev) * self.work.tokens * self.shape.width * self.value
        memory = self._held(self.shape.parameters, self.tune.batch_size) + self._saved()
        # fp32 weights, gradient, two moments of AdamW, and the best copy so far
        memory += 5 * 4 * trained + (states if self.recipe.cached else 0)
        # the adapters, and two checkpoints of four tensors each
        return self._estimate(f"train@{name}", spent, memory, (self.work.cells + 8) * 4 * trained)

    def predict(self, name: str) -> Estimate:
        """Every cell's answers to its dev fold and the test questions."""
        asked = self.work.cells * (self.work.dev + self.work.test)
        spent = flops.evaluation(self.shape, self.recipe, self.width) * asked
        memory = self._held(self.shape.parameters, self.student.batch_size)
        return self._estimate(f"predict@{name}", spent, memory, asked * 200)

    def baselines(self) -> Estimate:
        """The untuned model's answers."""
        asked = self.work.dev * self.work.folds + self.work.test
        one = flops.forward(self.shape, self.width, layers=self.shape.layers, adapted=0, r=0)
        memory = self._held(self.shape.parameters, self.student.batch_size)
        return self._estimate("baselines", Flops(one * asked), memory, asked * 400)

    def _estimate(self, stage: str, spent: Flops, memory: float, disk: float) -> Estimate:
        ahead, back = _REACHED[self.machine.dtype]
        seconds = (spent.forward / ahead + spent.backward / back) / self.machine.rate
        seconds += _START_S + self.shape.parameters * self.value / _READ_BYTES_PER_S
        return Estimate(stage, spent, seconds, memory, disk)

    def _held(self, weights: int, batch: int) -> float:
        """Process, weights and the values of one block for the longest batch."""
        tokens = batch * padded_width([self.work.longest])
        sides = sum(a + b for a, b in self.shape.linears)
        process = _PROCESS_BYTES if self.machine.device == "cpu" else 0
        return process + weights * self.value + 2 * tokens * sides * self.value

    def _saved(self) -> float:
        tokens = self.tune.batch_size * padded_width([self.work.longest])
        sides = sum(a + b for a, b in self.shape.linears)
        saved = _SAVED_VALUES * tokens * sides * self.value * self.recipe.trained
        # a prefix in fp32 for every row of the batch, and again beside the prompt's keys and values
        each = self.recipe.trained * 2 * self.shape.keys * self.recipe.virtual * (4 + self.value)
        return saved + self.tune.batch_size * each


def require_feasible(
    found: Sequence[Estimate],
    shape: Shape,
    student: StudentParams,
    tune: TuneParams,
    work: Workload,
    machine: Machine,
    max_hours: float,
) -> None:
    """Raise TooLarge, with the figures and what would do, if memory, disk or hours do not suffice."""
    problem = _problem(found, machine, max_hours)
    if problem is None:
        return
    fitting = _fitting(shape, student, tune, work, machine, max_hours)
    need = max(one.memory for one in found)
    gpu = f"a GPU with {math.ceil(1.2 * need / _GIB)} GiB"
    would = " or ".join([*fitting, "a smaller student.model", gpu])
    raise TooLarge(
        f"{student.model} ({shape.parameters / 1e9:.1f}B): {problem}; what would do: {would}"
    )


def _problem(found: Sequence[Estimate], machine: Machine, max_hours: float) -> str | None:
    largest = max(found, key=lambda one: one.memory)
    if largest.memory > machine.memory:
        return (
            f"{largest.stage} needs {largest.memory / _GIB:.1f} GiB of memory in {machine.dtype}, "
            f"{machine.memory / _GIB:.1f} are free"
        )
    disk = sum(one.disk for one in found)
    if disk > machine.disk:
        return f"{disk / _GIB:.1f} GiB of disk are needed, {machine.disk / _GIB:.1f} are free"
    hours = sum(one.seconds for one in found) / 3600
    if hours > max_hours:
        return (
            f"{sum(one.flops.total for one in found) / 1e12:,.0f} TFLOP take {hours:,.1f} hours at this "
            f"machine's {machine.rate / 1e9:,.0f} GFLOP/s in {machine.dtype}, "
            f"compute.max_hours is {max_hours:g}"
        )
    return None


def _fitting(
    shape: Shape,
    student: StudentParams,
    tune: TuneParams,
    work: Workload,
    machine: Machine,
    max_hours: float,
) -> list[str]:
    """Return the smallest change of each kind that would fit, as it would stand in params.yaml."""

    def fits(**changes: object) -> bool:
        changed = tune.model_copy(update=changes)
        return (
            _problem(estimates(shape, student, changed, work, machine), machine, max_hours) is None
        )

    answers = []
    now = recipe_of(shape, tune).trained
    for trained in range(now - 1, 0, -1):
        if fits(layers=f"top-{trained}", reuse_frozen=True):
            answers.append(f"tune.layers: top-{trained} with reuse_frozen")
            break
    for batch in (b for b in (4, 2, 1) if b < tune.batch_size):
        if fits(batch_size=batch):
            answers.append(f"tune.batch_size: {batch}")
            break
    for epochs in range(tune.epochs - 1, 0, -1):
        if fits(epochs=epochs):
            answers.append(f"tune.epochs: {epochs}")
            break
    return answers
