"""What a causal LM's output layer makes of an answer: logits of chosen tokens, likelihoods of several.

Most tokenizers have one token for each of " yes", " no" and " maybe"; where one splits them, the answers
are scored as sequences that share one pass over the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medslm.errors import ParamsError


def causal_lm(model: Any) -> Any:
    """Return the Hugging Face model inside a peft one, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


class OutputLayer:
    """The output layer of a causal LM with what some families do to its logits.

    Bias (Phi, GPT-J), a cap by tanh (Gemma 2), a factor (Cohere) and a divisor (Granite) are all that the
    causal LMs of transformers 5.23 put between it and the logits.
    """

    def __init__(self, lm: Any) -> None:
        self.layer = lm.get_output_embeddings()
        config = lm.config.get_text_config()
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.factor = float(getattr(config, "logit_scale", None) or 1.0)
        self.factor /= float(getattr(config, "logits_scaling", None) or 1.0)

    def weight(self, tokens: Any) -> Any:
        """Return the rows of ``tokens`` in fp32, part of the graph where the layer itself is trained."""
        return self.layer.weight.index_select(0, tokens).float()

    def some(self, states: Any, tokens: Any) -> Any:
        """Return the fp32 logits of ``tokens`` alone for states (..., width)."""
        logits = states.float() @ self.weight(tokens).T
        bias = getattr(self.layer, "bias", None)
        if bias is not None:
            logits = logits + bias.index_select(0, tokens).float()
        return self._finished(logits)

    def all(self, states: Any) -> Any:
        """Return the fp32 logits of the whole vocabulary for states (..., width)."""
        return self._finished(self.layer(states.to(self.layer.weight.dtype)).float())

    def _finished(self, logits: Any) -> Any:
        if self.factor != 1.0:
            logits = logits * self.factor
        if self.cap is not None:
            logits = (logits / self.cap).tanh() * self.cap
        return logits


class LabelTree:
    """Answers of several tokens as a tree below the prompt: every distinct beginning is a node, fed once.

    ``nodes`` are the beginnings, shorter ones first; ``terms`` has, per answer, where each of its tokens
    is predicted: (0 for the prompt's end or 1 + the number of a node, the token).
    """

    def __init__(self, labels: Sequence[tuple[int, ...]]) -> None:
        begun = {label[:end] for label in labels for end in range(1, len(label))}
        self.nodes = sorted(begun, key=lambda node: (len(node), node))
        place = {(): 0} | {node: 1 + i for i, node in enumerate(self.nodes)}
        self.terms = [[(place[ids[:at]], ids[at]) for at in range(len(ids))] for ids in labels]

    @property
    def depth(self) -> int:
        """How many tokens are fed below the prompt on the longest way."""
        return max((len(node) for node in self.nodes), default=0)

    def sees(self) -> list[list[bool]]:
        """Return which node (row) attends to which (column): itself and its own beginnings."""
        return [[node[: len(other)] == other for other in self.nodes] for node in self.nodes]


def require_sharing(lm: Any, tree: LabelTree) -> None:
    """Raise ParamsError if answers of several tokens are put to a model that forgets its prompt."""
    kinds = getattr(lm.config.get_text_config(), "layer_types", None) or []
    other = sorted(set(kinds) - {"full_attention"})
    if tree.nodes and other:
        raise ParamsError(
            f"student.model: its tokenizer splits an answer, and layers of the kind {other[0]} do not "
            "keep the whole prompt to share; choose a model whose tokenizer has one token per answer"
        )


def log_likelihoods(
    lm: Any, tree: LabelTree, ids: Any, lengths: Sequence[int], prefix: Any | None
) -> Any:
    """Return the summed log-probability of each answer's tokens, shape (prompts, answers), in the graph.

    The prompts ``ids`` (right-padded) pass once, without a mask; then the nodes of ``tree`` attend to
    the keys and values kept of it. ``prefix`` is a cache with trained virtual tokens, or None.
    """
    import torch
    from transformers import DynamicCache

    body, device = lm.base_model, ids.device
    cache = DynamicCache() if prefix is None else prefix
    virtual = cache.get_seq_length()
    hidden = body(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    rows, ends = torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device)
    states = [hidden[rows, ends - 1][:, None]]
    if tree.nodes:
        dtype = hidden.dtype if cache.layers[0].keys is None else cache.layers[0].keys.dtype
        fed = torch.tensor([node[-1] for node in tree.nodes], device=device)
        below = torch.tensor([len(node) - 1 for node in tree.nodes], device=device)
        states.append(
            body(
                input_ids=fed.expand(len(lengths), -1),
                attention_mask=_mask(tree, ends, virtual, ids.shape[1], dtype),
                position_ids=virtual + ends[:, None] + below,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        )
    logs = torch.log_softmax(OutputLayer(lm).all(torch.cat(states, 1)), -1)
    sums = [torch.stack([logs[:, at, token] for at, token in way]).sum(0) for way in tree.terms]
    return torch.stack(sums, -1)


def _mask(tree: LabelTree, ends: Any, virtual: int, width: int, dtype: Any) -> Any:
    """Return what is added to the scores of the nodes: 0 where one may look, else the lowest value.

    Shape (prompts, 1, nodes, virtual + width + nodes); padding behind a prompt is not looked at.
    """
    import torch

    count = len(tree.nodes)
    column = torch.arange(virtual + width, device=ends.device)
    prompt = (column < virtual + ends[:, None])[:, None, None, :].expand(-1, 1, count, -1)
    own = torch.tensor(tree.sees(), device=ends.device).expand(len(ends), 1, count, count)
    seen = torch.cat([prompt, own], -1)
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
