"""Full fine-tuning: the base's own weights are trained in place, saved alone, and put back afterwards.

Weights that are trained are float32 even on a bfloat16 base, where AdamW's small steps would be
rounded away; the rest of the base stays as it was loaded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medslm.errors import DataError
from medslm.files import read_json

log = logging.getLogger(__name__)

METHOD = "full"
_KEPT = "medslm_weights_before"  # attribute of a model that is trained, or was loaded, in place
_NAMED = "medslm_weights_named"
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.([0-9]+)\.")


def train_in_place(lm: Any, layers: Sequence[int] | None) -> Any:
    """Make the weights of ``layers`` (None: of the whole model) trainable in float32 and return ``lm``.

    Raises DataError if the model's layers are not found by name.
    """
    chosen = {n: p for n, p in lm.named_parameters() if layers is None or layer_of(n) in layers}
    if not chosen:
        raise DataError(
            f"model {lm.config.model_type}: its layers have unknown names; set tune.layers: all"
        )
    _keep(lm, chosen)
    if any(p.data.element_size() < 4 for p in chosen.values()):
        log.info("full: the trained weights are float32 on a base in %s", lm.dtype)
    for parameter in chosen.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return lm


def trained_in_place(model: Any) -> dict[str, Any]:
    """Return the weights trained or loaded in place, by name; {} for a model that has none."""
    kept = getattr(model, _KEPT, None)
    if not kept:
        return {}
    return {name: p for name, p in model.named_parameters() if name in kept}


def put_back(lm: Any) -> None:
    """Give ``lm`` the weights it had before anything was trained or loaded in place."""
    parameters = dict(lm.named_parameters())
    for name, before in getattr(lm, _KEPT).items():
        parameters[name].data = before
        parameters[name].grad = None
        parameters[name].requires_grad_(False)
    delattr(lm, _KEPT)
    if hasattr(lm, _NAMED):
        delattr(lm, _NAMED)


def in_place_config(base_id: str) -> dict[str, Any]:
    """Return what adapter_config.json says of weights trained in place."""
    return {"base_model_name_or_path": base_id, "method": METHOD}


def is_in_place(folder: Path) -> bool:
    """True if ``folder`` holds weights trained in place rather than an adapter of peft."""
    found: bool = read_json(folder / "adapter_config.json").get("method") == METHOD
    return found


def add_weights(lm: Any, folder: Path, name: str) -> None:
    """Read the weights in ``folder`` under ``name``; several may be held, `use_weights` chooses.

    Raises DataError if one is not a weight of ``lm``.
    """
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    parameters = dict(lm.named_parameters())
    for key, tensor in tensors.items():
        if key not in parameters or parameters[key].shape != tensor.shape:
            raise DataError(f"{folder}: {key} is no weight of this base model; use its own base")
    if hasattr(lm, _KEPT) and set(getattr(lm, _KEPT)) != set(tensors):
        raise DataError(f"{folder}: trains other layers than the cells beside it; train all again")
    if not hasattr(lm, _KEPT):
        _keep(lm, {key: parameters[key] for key in tensors})
        setattr(lm, _NAMED, {})
    getattr(lm, _NAMED)[name] = tensors


def use_weights(lm: Any, name: str) -> None:
    """Put the weights read under ``name`` in place, in the base's own precision."""
    parameters = dict(lm.named_parameters())
    for key, tensor in getattr(lm, _NAMED)[name].items():
        there = parameters[key].data
        parameters[key].data = tensor.to(device=there.device, dtype=there.dtype)


def _keep(lm: Any, chosen: dict[str, Any]) -> None:
    """Remember the weights themselves, not copies: training and loading put others in their place."""
    setattr(lm, _KEPT, {name: p.data for name, p in chosen.items()})
    for parameter in chosen.values():
        parameter.data = parameter.data.clone()


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a weight belongs to, None outside the layers."""
    found = _LAYER.search(f".{name}")
    return int(found.group(1)) if found else None
