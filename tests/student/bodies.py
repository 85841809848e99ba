"""Tiny random models of each family whose layers can be taken apart, and of one whose cannot."""

from __future__ import annotations

from typing import Any

from medslm.models import Loaded
from tests.tiny import tiny_tokenizer

FAMILIES = ("llama", "qwen3", "gpt2", "biogpt")


def tiny_loaded(family: str, *, dtype: str = "float32", seed: int = 0) -> Loaded:
    """Return a random four-layer model of a family in evaluation mode, without any file."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(_config(family, len(tokenizer)))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model = model.to(getattr(torch, dtype)).requires_grad_(False).eval()
    return Loaded(model, tokenizer, f"tiny-{family}", f"{seed:064x}", dtype)


def _config(family: str, vocabulary: int) -> Any:
    import transformers

    common = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return transformers.GPT2Config(**common, **none, n_embd=32, n_layer=4, n_head=4, n_inner=64)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 2048,
    }
    if family == "biogpt":
        none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        more = {"activation_dropout": 0.0, "layerdrop": 0.0, "hidden_act": "gelu"}
        return transformers.BioGptConfig(**common, **sizes, **none, **more)
    make = {
        "llama": transformers.LlamaConfig,
        "qwen3": transformers.Qwen3Config,
        "gemma2": transformers.Gemma2Config,
    }[family]
    return make(**common, **sizes, num_key_value_heads=2, head_dim=8)
