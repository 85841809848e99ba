"""Floating-point operations of training and scoring, by formula: 2 per multiply-add of a matrix product.

Everything else (norms, activations, softmax, the optimiser) is under 1 % at the sizes of real models.
The counting is that of Kaplan et al. 2020 (arXiv 2001.08361, section 2.1: 2N forward, 4N backward a
token), less what LoRA leaves out: a frozen matrix needs the gradient of its input and none of its own,
and nothing below the lowest trained layer needs any. Tests compare every figure with torch's counter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal, NamedTuple

from medslm.data.records import ANSWERS
from medslm.student.shapes import Shape

Method = Literal["lora", "dora", "prefix", "full"]

# Score and mix a value per pair of positions; a causal kernel skips half of them.
_ATTENTION = 2 * 2
# The fused backward computes the scores once more and four products of the same size (torch's
# sdpa_backward_flop).
_ATTENTION_BACKWARD = 5 * 2


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations of the forward and of the backward pass."""

    forward: float
    backward: float = 0.0

    @property
    def total(self) -> float:
        """Both passes."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: float) -> Flops:
        return Flops(self.forward * times, self.backward * times)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained: ``trained`` layers nearest the output, adapters of rank ``r`` on ``targets``.

    ``targets`` are names of linears; None, and names that the shape does not know, are all of them.
    With none before attention, the lowest layer costs less than the formulas say.
    ``r`` counts for LoRA and DoRA only, ``virtual_tokens`` for prefix tuning. ``cached`` says that the
    layers below come from stored states.
    """

    method: Method
    r: int
    trained: int
    cached: bool
    targets: tuple[str, ...] | None = None
    virtual_tokens: int = 0

    @property
    def rank(self) -> int:
        """The rank of the adapters, 0 for a method without any."""
        return self.r if self.method in ("lora", "dora") else 0

    @property
    def virtual(self) -> int:
        """Positions before the prompt that only attention sees."""
        return self.virtual_tokens if self.method == "prefix" else 0


def forward(
    shape: Shape,
    tokens: int,
    *,
    layers: int,
    adapted: int,
    r: int,
    causal: bool = True,
    answer_only: bool = False,
    targets: tuple[str, ...] | None = None,
    virtual: int = 0,
) -> float:
    """Return the operations of ``layers`` blocks on one prompt, ``adapted`` of them with LoRA.

    ``targets`` are the linears with adapters, ``virtual`` the tokens of a prefix.
    ``causal`` counts the pairs of positions that attention needs; False counts all, as torch's
    counter does. ``answer_only`` runs what can be of the last layer at one position (``last_layer``).
    """
    pairs = _pairs(tokens, causal, virtual)
    blocks = layers * (2 * shape.block * tokens + _ATTENTION * shape.attention * pairs)
    chosen = _chosen(shape, targets)
    found = blocks + adapted * 2 * r * _sides(chosen.all) * tokens
    if answer_only:
        found -= 2 * _weights(_chosen(shape, None).alone) * (tokens - 1)
        found -= min(adapted, 1) * 2 * r * _sides(chosen.alone) * (tokens - 1)
    return found


def backward(shape: Shape, recipe: Recipe, tokens: int, *, causal: bool = True) -> float:
    """Return the operations of the backward pass of one prompt through the trained layers.

    The lowest trained layer's input needs no gradient, since everything below it is frozen.
    """
    whole, chosen, r = _chosen(shape, None), _chosen(shape, recipe.targets), recipe.rank
    through = recipe.trained * shape.block
    if recipe.method != "full":  # which trains the norm before them too
        through -= _weights(whole.early)
    pairs = _pairs(tokens, causal, recipe.virtual)
    found = 2.0 * through * tokens
    found += recipe.trained * _ATTENTION_BACKWARD * shape.attention * pairs
    # of each pair A, B: the gradients of both, and of what goes into B and into A
    found += recipe.trained * 4 * r * _sides(chosen.all) * tokens
    found -= 2 * r * sum(a for a, _ in chosen.early) * tokens
    # of the last layer, what runs at the answer position only
    rest = tokens - 1
    reached = recipe.trained > 1 or recipe.method == "full"
    passed = whole.alone if reached else shape.linears[shape.early :]
    found -= 2.0 * _weights(passed) * rest
    found -= 4 * r * _sides(chosen.alone) * rest
    if recipe.method == "full":
        found += recipe.trained * 2 * shape.block * tokens - 2 * _weights(whole.alone) * rest
    return found


def head(shape: Shape, *, rows: int = len(ANSWERS), positions: int = 1) -> float:
    """Return the operations of the output head: three rows at one position, unless said otherwise."""
    return 2 * rows * shape.width * positions


def step(shape: Shape, recipe: Recipe, tokens: int, *, causal: bool = True) -> Flops:
    """Return the operations of one prompt in one training step; ``tokens`` counts padding too."""
    layers = recipe.trained if recipe.cached else shape.layers
    adapted = 0 if recipe.method in ("full", "prefix") else recipe.trained
    ahead = forward(
        shape,
        tokens,
        layers=layers,
        adapted=adapted,
        r=recipe.rank,
        causal=causal,
        answer_only=True,
        targets=recipe.targets,
        virtual=recipe.virtual,
    )
    back = backward(shape, recipe, tokens, causal=causal)
    return Flops(ahead + head(shape), back + head(shape))


def evaluation(shape: Shape, recipe: Recipe, tokens: int, *, causal: bool = True) -> Flops:
    """Return the operations of scoring one prompt with the trained model."""
    return Flops(step(shape, recipe, tokens, causal=causal).forward)


def building(shape: Shape, recipe: Recipe, tokens: int, *, causal: bool = True) -> Flops:
    """Return the operations of computing the states below the trained layers for one prompt."""
    below = shape.layers - recipe.trained
    return Flops(forward(shape, tokens, layers=below, adapted=0, r=0, causal=causal))


class _Linears(NamedTuple):
    """Linears of a block: all, those that read its input, and those of the last that run at one position."""

    all: list[tuple[int, int]]
    early: list[tuple[int, int]]
    alone: list[tuple[int, int]]


def _chosen(shape: Shape, targets: tuple[str, ...] | None) -> _Linears:
    """Return the linears of these names.

    At the answer position alone run queries and what follows attention. One product that makes queries,
    keys and values together (GPT-2) runs at all.
    """
    known = targets is not None and set(targets) <= set(shape.names)
    rows = [
        (number, sides)
        for number, (name, sides) in enumerate(zip(shape.names, shape.linears, strict=True))
        if not known or name in (targets or ())
    ]
    queries = 0 if shape.early == 3 else -1
    return _Linears(
        [sides for _, sides in rows],
        [sides for number, sides in rows if number < shape.early],
        [sides for number, sides in rows if number == queries or number >= shape.early],
    )


def trained_weights(shape: Shape, recipe: Recipe) -> int:
    """Return how many weights are trained; vectors (norms, biases, DoRA's lengths) are left out."""
    if recipe.method == "full":  # of all layers: the embeddings too
        every = recipe.trained == shape.layers
        return shape.parameters if every else recipe.trained * shape.block
    if recipe.method == "prefix":
        return recipe.trained * 2 * shape.keys * recipe.virtual
    return recipe.trained * recipe.r * _sides(_chosen(shape, recipe.targets).all)


def _weights(linears: Iterable[tuple[int, int]]) -> int:
    return sum(a * b for a, b in linears)


def _sides(linears: Iterable[tuple[int, int]]) -> int:
    return sum(a + b for a, b in linears)


def _pairs(tokens: int, causal: bool, virtual: int) -> float:
    """Return the pairs of positions that attention needs; every token sees all virtual ones."""
    return tokens * (tokens * (0.5 if causal else 1.0) + virtual)
