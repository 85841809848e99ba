"""The ways to tune a student, one interface: LoRA, DoRA, prefix tuning, full fine-tuning.

A method makes a base model tunable, is saved as two files, loaded again for answers, and taken off
so that the next cell finds the base as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medslm.errors import DataError, ParamsError
from medslm.models import Loaded
from medslm.student import full
from medslm.student.lora import adapted_layers, add_lora, peft_silenced
from medslm.student.prompting import leading_ids
from medslm.student.settings import TuneParams

log = logging.getLogger(__name__)

# What a prefix that starts from words starts from, repeated up to `virtual_tokens`: on little data real
# words start much better than random vectors (arXiv 2101.00190, section 7.4).
PREFIX_TEXT = (
    "Read the abstract of a medical study and the question about it. Answer yes if the findings "
    "support it, no if they speak against it, maybe if they leave it open. "
)


def tunable(loaded: Loaded, tune: TuneParams) -> Any:
    """Return the model with exactly what ``tune`` trains requiring gradients, in float32.

    Fresh weights are drawn from torch's global RNG. Raises ParamsError if the model lacks what the
    knobs name. `take_off` undoes it.
    """
    return _METHODS[tune.method](loaded, tune)


def first_adapted(tune: TuneParams, layers_total: int) -> int:
    """Return the number of the lowest layer that training changes: all below are the base's for good.

    0 if everything is adapted; a prefix is read by every layer.
    """
    if tune.method == "prefix":
        return 0
    layers = adapted_layers(layers_total, tune.layers)
    return layers[0] if layers else 0


def adapted_in(model: Any) -> list[int] | None:
    """Return the numbers of the layers that training changes; None if that is all of them."""
    if trained := full.trained_in_place(model):
        layers = {full.layer_of(name) for name in trained}
        return None if None in layers else sorted(n for n in layers if n is not None)
    found: list[int] | None = getattr(model.peft_config["default"], "layers_to_transform", None)
    return found


def is_tuned(model: Any) -> bool:
    """True for a model that `tunable` or `load_tuned` returned, False for a bare base."""
    return hasattr(model, "peft_config") or bool(full.trained_in_place(model))


def take_off(model: Any) -> None:
    """Give the base back as it was before `tunable` or `load_tuned`."""
    if full.trained_in_place(model):
        full.put_back(model)
    elif not is_prefix(model):  # a prefix lies beside the base, not in it
        model.unload()


def load_tuned(base: Any, folder: Path) -> Any:
    """Return ``base`` answering with what any method saved in ``folder``, in evaluation mode."""
    from peft import PeftModel

    if full.is_in_place(folder):
        full.add_weights(base, folder, "default")
        full.use_weights(base, "default")
        return base.eval()
    with peft_silenced():
        return PeftModel.from_pretrained(base, str(folder), is_trainable=False).eval()


def load_beside(model: Any, folder: Path, name: str) -> None:
    """Load another cell of the same method beside the first one (which is called "default").

    Raises DataError if it is of another method.
    """
    in_place = bool(full.trained_in_place(model))
    if full.is_in_place(folder) != in_place:
        raise DataError(f"{folder}: tuned by another method than the cells beside it")
    if in_place:
        full.add_weights(model, folder, name)
    else:
        with peft_silenced():
            model.load_adapter(str(folder), adapter_name=name)


def use(model: Any, name: str) -> None:
    """Answer with the cell called ``name`` from now on."""
    if full.trained_in_place(model):
        full.use_weights(model, name)
    else:
        model.set_adapter(name)


def is_prefix(model: Any) -> bool:
    """True if the model carries a trained prefix."""
    return hasattr(model, "peft_config") and model.active_peft_config.is_prompt_learning


def virtual_tokens(model: Any) -> int:
    """Return how many positions a trained prefix takes from the prompt; 0 for other methods."""
    return model.active_peft_config.num_virtual_tokens if is_prefix(model) else 0


def prefix_cache(model: Any, prompts: int) -> Any | None:
    """Return the trained prefix as a fresh cache of keys and values for ``prompts`` rows, or None.

    Callers hand it to the model's body themselves, since they do not go through peft's forward.
    """
    return model.get_prompt(batch_size=prompts) if is_prefix(model) else None


def require_room(loaded: Loaded, tune: TuneParams, max_tokens: int) -> None:
    """Raise ParamsError if a prompt of ``max_tokens`` and the prefix do not fit the model's positions."""
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    taken = tune.virtual_tokens if tune.method == "prefix" else 0
    if limit is not None and max_tokens + taken > limit:
        beside = f" and tune.virtual_tokens={taken}" if taken else ""
        raise ParamsError(
            f"student.max_tokens={max_tokens}{beside} need more than the {limit} positions of "
            f"{loaded.base_id}: lower student.max_tokens to {limit - taken}"
        )


def _lora(loaded: Loaded, tune: TuneParams) -> Any:
    return add_lora(
        loaded,
        r=tune.r,
        alpha=tune.alpha,
        dropout=tune.dropout,
        targets=tune.targets,
        layers=tune.layers,
        rslora=tune.rslora,
        dora=tune.method == "dora",
    )


def _prefix(loaded: Loaded, tune: TuneParams) -> Any:
    """Put trained keys and values before the prompt in every layer (arXiv 2101.00190).

    Without the projection of the paper, which little data does not need. Zero keys and values start
    as a mild pull of attention to nothing; a text starts as that text read before the prompt.
    """
    from peft import PrefixTuningConfig, get_peft_model, initialize_kv_prefix_from_past_key_values

    if loaded.model.is_activation_checkpointing:
        raise ParamsError("tune.method: prefix is lost under gradient checkpointing; turn that off")
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=tune.virtual_tokens, init_weights="zero"
    )
    with peft_silenced():
        model = get_peft_model(loaded.model, config)
        model.prompt_encoder.float()
        if tune.prefix_init == "text":
            cache = _cache_of_text(loaded, tune.virtual_tokens)
            initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
    return model


def _cache_of_text(loaded: Loaded, count: int) -> list[tuple[Any, Any]]:
    """Return the base's keys and values of the first ``count`` tokens of the starting text, per layer."""
    import torch
    from transformers import DynamicCache

    words = list(loaded.tokenizer(PREFIX_TEXT, add_special_tokens=False)["input_ids"])
    text = (leading_ids(loaded.tokenizer) + words * (count // len(words) + 1))[:count]
    cache = DynamicCache()
    with torch.no_grad():
        ids = torch.tensor([text], device=loaded.model.device)
        loaded.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _full(loaded: Loaded, tune: TuneParams) -> Any:
    layers = adapted_layers(loaded.model.config.num_hidden_layers, tune.layers)
    return full.train_in_place(loaded.model, layers)


_METHODS: dict[str, Callable[[Loaded, TuneParams], Any]] = {
    "lora": _lora,
    "dora": _lora,
    "prefix": _prefix,
    "full": _full,
}
