"""The shape of a base model, read from its configuration alone: no weight is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medslm.errors import DataError
from medslm.files import read_json
from medslm.models import EMBEDDED

# config.json of SmolLM2-135M-Instruct: its wheel holds a GGUF file that takes seconds to read.
_EMBEDDED = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder: ``layers`` blocks of width ``width``; ``linears`` are a block's matrices, (in, out).

    ``names`` are theirs, as `tune.targets` has them; ``early`` of them read the block's input (the query,
    key and value projections); ``attention`` is heads times head size, ``keys`` that of the key heads
    alone; ``positions`` counts learned position vectors.
    """

    family: str
    layers: int
    width: int
    attention: int
    keys: int
    names: tuple[str, ...]
    linears: tuple[tuple[int, int], ...]
    early: int
    vocabulary: int
    tied: bool
    positions: int

    @property
    def block(self) -> int:
        """Weights in one block's matrices."""
        return sum(a * b for a, b in self.linears)

    @property
    def parameters(self) -> int:
        """All weights; vectors (norms, biases: under 1 %) are left out."""
        tables = self.vocabulary * self.width * (1 if self.tied else 2)
        return self.layers * self.block + tables + self.positions * self.width


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Return the shape a Hugging Face config.json describes; DataError if it does not say enough."""
    try:
        if config["model_type"] == "gpt2":
            return _gpt2(config)
        if config["model_type"] == "biogpt":
            return _biogpt(config)
        return _gated(config)
    except (KeyError, TypeError, ZeroDivisionError) as exc:
        raise DataError(
            f"model {config.get('model_type', '?')}: its config.json does not tell its size ({exc})"
        ) from exc


def read_shape(name: str, revision: str | None) -> Shape:
    """Return the shape of a base model by its name in params.yaml, without its weights.

    A Hugging Face id is looked up by its config.json, in the local cache first. Raises DataError if
    that is not to be had.
    """
    if name == EMBEDDED:
        return shape_of(_EMBEDDED)
    if Path(name).is_dir():
        return shape_of(read_json(Path(name) / "config.json"))
    return shape_of(_hub_config(name, revision))


def _hub_config(name: str, revision: str | None) -> Mapping[str, Any]:
    from medslm.models import quiet

    quiet()
    from transformers import PretrainedConfig

    try:
        found, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    except OSError as exc:
        first = str(exc).strip().splitlines()[0]
        raise DataError(f"model {name}: its config.json is not to be had: {first}") from exc
    return dict(found)


def _gated(config: Mapping[str, Any]) -> Shape:
    """The LLaMA family: grouped key and value heads, a gated feed-forward network."""
    width, ff = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    q, kv = heads * head, (config.get("num_key_value_heads") or heads) * head
    attention = ((width, q), (width, kv), (width, kv), (q, width))
    return Shape(
        family=config["model_type"],
        layers=config["num_hidden_layers"],
        width=width,
        attention=q,
        keys=kv,
        names=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        linears=(*attention, (width, ff), (width, ff), (ff, width)),
        early=3,
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        positions=0,
    )


def _gpt2(config: Mapping[str, Any]) -> Shape:
    width = config["n_embd"]
    ff = config.get("n_inner") or 4 * width
    return Shape(
        family="gpt2",
        layers=config["n_layer"],
        width=width,
        attention=width,
        keys=width,
        names=("c_attn", "c_proj", "c_fc", "c_proj"),
        linears=((width, 3 * width), (width, width), (width, ff), (ff, width)),
        early=1,
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", True)),
        positions=config["n_positions"],
    )


def _biogpt(config: Mapping[str, Any]) -> Shape:
    width, ff = config["hidden_size"], config["intermediate_size"]
    return Shape(
        family="biogpt",
        layers=config["num_hidden_layers"],
        width=width,
        attention=width,
        keys=width,
        names=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
        linears=((width, width),) * 4 + ((width, ff), (ff, width)),
        early=3,
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", True)),
        positions=config["max_position_embeddings"],
    )
