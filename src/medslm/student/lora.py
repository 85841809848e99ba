"""LoRA adapters: put on a base model, taken off again, and saved as the same bytes every time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medslm.errors import Diverged, ParamsError
from medslm.files import write_json, writing
from medslm.models import Loaded


def add_lora(
    loaded: Loaded,
    *,
    r: int,
    alpha: int,
    dropout: float,
    targets: Literal["all-linear"] | Sequence[str],
    layers: str,
) -> Any:
    """Return the model wrapped by peft with fresh adapters (random A, zero B) from torch's global RNG.

    ``layers`` is "all" or "top-N", the N layers nearest the output. Raises ParamsError if a target
    does not exist or the model has fewer layers.
    """
    from peft import LoraConfig, get_peft_model

    names = _linear_names(loaded.model)
    if targets != "all-linear":
        missing = sorted(set(targets) - names)
        if missing:
            raise ParamsError(
                f"tune.targets: {missing[0]} is no linear layer of {loaded.base_id}; it has {sorted(names)}"
            )
        names = set(targets)
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=sorted(names),
        layers_to_transform=adapted_layers(loaded.model.config.num_hidden_layers, layers),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with peft_silenced():
        return get_peft_model(loaded.model, config)


@contextlib.contextmanager
def peft_silenced() -> Iterator[None]:
    """Hide one warning of peft 0.21: it still asks transformers 5 by a deprecated name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def adapted_layers(total: int, layers: str) -> list[int] | None:
    """Return the layer numbers for "top-N", None for "all"; ParamsError if there are fewer than N."""
    if layers == "all":
        return None
    wanted = int(layers.removeprefix("top-"))
    if wanted > total:
        raise ParamsError(f"tune.layers: {layers} asked of a model with {total} layers")
    return list(range(total - wanted, total))


def adapter_tensors(model: Any) -> dict[str, Any]:
    """Return a copy of the adapter's tensors on the CPU, by name; Diverged if one is not finite."""
    from peft import get_peft_model_state_dict

    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Diverged(f"adapter weight {name} is not finite: lower tune.lr")
    return tensors


def save_adapter(folder: Path, model: Any, tensors: dict[str, Any], base_id: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json, byte-equal for equal training.

    peft writes target_modules in the order of a set and a path of this machine as the base: both are
    normalised here.
    """
    from safetensors.torch import save_file

    config = model.peft_config["default"].to_dict()
    config = {k: _plain(v) for k, v in config.items()}
    config["base_model_name_or_path"] = base_id
    config["inference_mode"] = True
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / "adapter_model.safetensors") as partial:
        save_file(dict(sorted(tensors.items())), str(partial))
    write_json(folder / "adapter_config.json", config)


def _plain(value: Any) -> Any:
    if isinstance(value, set):
        return sorted(value)
    return value.value if hasattr(value, "value") else value


def _linear_names(model: Any) -> set[str]:
    """Return the last names of all linear layers but the output head (GPT-2's Conv1D counts)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
