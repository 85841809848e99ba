"""One tiny random model per architecture path, each with the tokenizer of `tests.tiny` or one that splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import tiny_tokenizer

LAYERS = 3
_LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
# name -> (config class, model class, its own settings)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _LLAMA_LIKE),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _LLAMA_LIKE),
    # as in the real ones, heads together are wider than the model
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {**_LLAMA_LIKE, "head_dim": 16}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", _LLAMA_LIKE),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_LLAMA_LIKE, "head_dim": 16, "final_logit_softcapping": 2.0, "sliding_window": 16},
    ),
    "phi": (
        "PhiConfig",
        "PhiForCausalLM",
        {
            **{
                k: v for k, v in _LLAMA_LIKE.items() if k not in ("head_dim", "tie_word_embeddings")
            },
            "num_key_value_heads": 4,
        },
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 512},
    ),
    "biogpt": (
        "BioGptConfig",
        "BioGptForCausalLM",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
        },
    ),
}


def make_tiny(folder: Path, name: str, *, split: bool = False, seed: int = 0) -> Path:
    """Save a random model of that architecture to ``folder`` and return it; ``split`` its tokenizer."""
    import torch
    import transformers

    tokenizer = split_tokenizer() if split else tiny_tokenizer()
    config_class, model_class, own = ARCHITECTURES[name]
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    config = getattr(transformers, config_class)(**{**own, **ends, "vocab_size": len(tokenizer)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, model_class)(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def split_tokenizer():  # type: ignore[no-untyped-def]  # transformers is untyped
    """Return a tokenizer with " yes" and " no" in one token and " maybe" in three: " ma", "y", "be"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s"), ("Ġ", "n"), ("Ġn", "o")]
    merges += [("Ġ", "m"), ("Ġm", "a"), ("b", "e")]
    pieces = ["<eos>", *pre_tokenizers.ByteLevel.alphabet(), *("".join(pair) for pair in merges)]
    vocab = {piece: i for i, piece in enumerate(sorted(set(pieces), key=pieces.index))}
    bare = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<eos>", pad_token="<eos>")
