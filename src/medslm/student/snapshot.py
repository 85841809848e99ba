"""The tensors of a checkpoint, taken from a training cell and put back into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medslm.errors import CheckpointError, Diverged
from medslm.student.tensors import first_not_finite

# AdamW's state of one parameter
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def take(parameters: Mapping[str, Any], optimizer: Any, best: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies on the CPU of adapter, moments, best adapter and random state, by name.

    Diverged if one is not finite: such a checkpoint could only go on to diverge again.
    """
    import torch

    tensors = {f"adapter.{n}": p.detach().cpu().clone() for n, p in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach().cpu().clone()
    if bad := first_not_finite(tensors):
        raise Diverged(f"{bad} is not finite: no checkpoint of it is written; lower tune.lr")
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors["rng"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return tensors


def put_back(
    tensors: Mapping[str, Any], parameters: Mapping[str, Any], optimizer: Any
) -> dict[str, Any]:
    """Set parameters, moments and random state to a checkpoint's; return its best adapter.

    CheckpointError if it lacks a tensor or has one of another shape: it is of another run.
    Diverged if a tensor is not finite.
    """
    import torch

    if bad := first_not_finite(dict(tensors)):
        raise Diverged(f"the checkpoint's {bad} is not finite: delete its folder and lower tune.lr")
    with torch.no_grad():
        for name, parameter in parameters.items():
            adapter = _found(tensors, f"adapter.{name}")
            if adapter.shape != parameter.shape:
                raise CheckpointError(
                    f"the checkpoint's {name} is {tuple(adapter.shape)}, the adapter's "
                    f"{tuple(parameter.shape)}: it is of another run; delete its folder to start anew"
                )
            if not torch.equal(adapter, parameter.cpu()) or f"optimizer.step.{name}" in tensors:
                _put_moments(tensors, name, parameter, optimizer)
            parameter.copy_(adapter)
    torch.set_rng_state(_found(tensors, "rng"))
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    return {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}


def _put_moments(tensors: Mapping[str, Any], name: str, parameter: Any, optimizer: Any) -> None:
    """Only a parameter that no step has reached has no moments."""
    stored = {key: _found(tensors, f"optimizer.{key}.{name}") for key in _MOMENTS}
    optimizer.state[parameter] = {
        key: value.to("cpu" if key == "step" else parameter.device) for key, value in stored.items()
    }


def _found(tensors: Mapping[str, Any], name: str) -> Any:
    if name not in tensors:
        raise CheckpointError(
            f"the checkpoint has no {name}: it is of another run; delete its folder to start anew"
        )
    return tensors[name]
