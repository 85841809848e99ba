"""LoRA adapters on a base model; what any method trained, saved as the same bytes every time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medslm.errors import Diverged, ParamsError
from medslm.files import write_json, writing
from medslm.models import Loaded
from medslm.student.full import in_place_config, trained_in_place
from medslm.student.tensors import first_not_finite, write_tensors


def add_lora(
    loaded: Loaded,
    *,
    r: int,
    alpha: int,
    dropout: float,
    targets: Literal["all-linear"] | Sequence[str],
    layers: str,
    rslora: bool = False,
    dora: bool = False,
) -> Any:
    """Return the model wrapped by peft with fresh adapters (random A, zero B) from torch's global RNG.

    ``layers`` is "all" or "top-N", the N layers nearest the output. The update is scaled by alpha / r, with
    ``rslora`` by alpha / sqrt(r) (arXiv 2312.03732); ``dora`` also learns the length of every weight
    column (arXiv 2402.09353). Raises ParamsError if a target does not exist or the model has fewer layers.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

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
        use_rslora=rslora,
        use_dora=dora,
        # GPT-2 keeps its weights transposed; peft would find out by itself, but warns of it
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in loaded.model.modules()),
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
    """Return a copy of what is trained, on the CPU, by name; Diverged if a value is not finite."""
    state = trained_in_place(model) or _peft_state(model)
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in state.items()}
    if name := first_not_finite(tensors):
        raise Diverged(f"adapter weight {name} is not finite: lower tune.lr")
    return tensors


def save_adapter(folder: Path, model: Any, tensors: dict[str, Any], base_id: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json, byte-equal for equal training.

    peft writes target_modules in the order of a set and a path of this machine as the base: both are
    normalised here.
    """
    if trained_in_place(model):
        config = in_place_config(base_id)
    else:
        config = {k: _plain(v) for k, v in model.peft_config["default"].to_dict().items()}
        config |= {"base_model_name_or_path": base_id, "inference_mode": True}
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / "adapter_model.safetensors") as partial:
        write_tensors(partial, tensors)
    write_json(folder / "adapter_config.json", config)


def _peft_state(model: Any) -> dict[str, Any]:
    from peft import get_peft_model_state_dict

    state: dict[str, Any] = get_peft_model_state_dict(model)
    return state


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
