"""Batched sampling from a causal LM in which each row draws from its own seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from medslm.errors import Diverged
from medslm.teacher.masks import Grammars, Trail, cut
from medslm.teacher.replies import STOP

if TYPE_CHECKING:
    from torch import Tensor

# The nucleus of a language model is nearly always within its likeliest tokens; where it is not, all
# are sorted. Sorting 49,152 of them at every step would take longer than the model does.
_LIKELIEST = 256


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt to continue, by a grammar if there is one.

    Generation ends at an end token, a stop string, the grammar's end or after max_tokens.
    """

    tokens: tuple[int, ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...]
    grammar: str | None


class Text(NamedTuple):
    """A continuation, cut before its stop string; ``finish_reason`` is "stop" or "length"."""

    text: str
    finish_reason: str
    tokens: int


@dataclass(slots=True)
class _Row:
    job: Job
    place: int
    random: random.Random
    trail: Trail | None
    tokens: list[int] = field(default_factory=list)

    def take(self, token: int) -> None:
        self.tokens.append(token)
        if self.trail is not None:
            self.trail.take(token)


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the longest common beginning that leaves every prompt at least one token."""
    if not prompts:
        return ()
    shortest, first, last = min(map(len, prompts)), min(prompts), max(prompts)
    length = 0
    # What the smallest and the largest in sort order share, all between them share.
    while length < shortest - 1 and first[length] == last[length]:
        length += 1
    return tuple(first[:length])


class Generator:
    """Continues prompts that share a prefix, whose keys and values are computed once.

    Works with models whose cache is transformers' DynamicCache (Llama, Mistral, Qwen, BioGPT, ...).
    """

    def __init__(self, model: Any, tokenizer: Any, prefix: Sequence[int]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._prefix = tuple(prefix)
        self._prefix_cache: Any = None
        self._ends = _end_tokens(model, tokenizer)
        self._grammars: Grammars | None = None

    def run(self, jobs: Sequence[Job]) -> list[Text]:
        """Return one continuation per job, in order; Diverged if a score is not finite."""
        import torch

        rows = [
            _Row(job, place, random.Random(job.seed), self._trail(job.grammar))
            for place, job in enumerate(jobs)
        ]
        texts: dict[int, Text] = {}
        with torch.inference_mode():
            logits, cache, mask = self._prefill(jobs)
            while rows:
                for row, token in zip(rows, draw(logits, rows), strict=True):
                    row.take(token)
                alive = []
                for at, row in enumerate(rows):
                    if (text := self._finished(row)) is None:
                        alive.append(at)
                    else:
                        texts[row.place] = text
                if len(alive) < len(rows):
                    rows = [rows[at] for at in alive]
                    chosen = torch.tensor(alive, dtype=torch.long, device=mask.device)
                    mask = mask[chosen]
                    if rows:
                        cache.batch_select_indices(chosen)
                if rows:
                    mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
                    logits = self._step(rows, cache, mask)
        return [texts[place] for place in range(len(jobs))]

    def _trail(self, grammar: str | None) -> Trail | None:
        if grammar is None:
            return None
        if self._grammars is None:
            size = self._model.get_output_embeddings().weight.shape[0]
            self._grammars = Grammars(self._tokenizer, size, self._ends)
        return self._grammars.open(grammar)

    def _prefill(self, jobs: Sequence[Job]) -> tuple[Tensor, Any, Tensor]:
        """Read the prompts, each distinct one once; return last logits, cache and mask per job."""
        import torch

        distinct = sorted({job.tokens for job in jobs})
        start = len(self._prefix)
        width = max(len(tokens) for tokens in distinct) - start
        device = self._model.device
        ids = torch.zeros(len(distinct), width, dtype=torch.long, device=device)
        mask = torch.zeros(len(distinct), start + width, dtype=torch.long, device=device)
        mask[:, :start] = 1
        for at, tokens in enumerate(distinct):
            rest = tokens[start:]
            # Padding stands between prefix and rest, so that all rows end at the same place.
            ids[at, width - len(rest) :] = torch.tensor(rest, device=device)
            mask[at, start + width - len(rest) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, start:]
        out = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache(len(distinct)),
            use_cache=True,
            logits_to_keep=1,
        )
        which = torch.tensor([distinct.index(job.tokens) for job in jobs], device=device)
        out.past_key_values.batch_select_indices(which)
        return out.logits[which, -1], out.past_key_values, mask[which]

    def _cache(self, count: int) -> Any:
        """Return a fresh cache that holds the prefix once per row."""
        import torch
        from transformers import DynamicCache

        if not self._prefix:
            return DynamicCache(config=self._model.config)
        if self._prefix_cache is None:
            ids = torch.tensor([self._prefix], device=self._model.device)
            out = self._model(
                input_ids=ids,
                past_key_values=DynamicCache(config=self._model.config),
                use_cache=True,
                logits_to_keep=1,
            )
            self._prefix_cache = out.past_key_values
        cache = copy.deepcopy(self._prefix_cache)
        cache.batch_repeat_interleave(count)
        return cache

    def _step(self, rows: Sequence[_Row], cache: Any, mask: Tensor) -> Tensor:
        import torch

        device = self._model.device
        ids = torch.tensor([[row.tokens[-1]] for row in rows], device=device)
        places = [[len(row.job.tokens) + len(row.tokens) - 1] for row in rows]
        out = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=torch.tensor(places, device=device),
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _finished(self, row: _Row) -> Text | None:
        if row.tokens[-1] in self._ends:
            return Text(self._decode(row.tokens[:-1]), STOP, len(row.tokens))
        text = self._decode(row.tokens)
        cuts = [at for stop in row.job.stop if (at := text.find(stop)) >= 0]
        if cuts:
            return Text(text[: min(cuts)], STOP, len(row.tokens))
        if row.trail is not None and row.trail.done:
            return Text(text.rstrip(), STOP, len(row.tokens))
        if len(row.tokens) >= row.job.max_tokens:
            return Text(text, "length", len(row.tokens))
        return None

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def draw(logits: Tensor, rows: Sequence[_Row]) -> list[int]:
    """Draw one token per row by temperature and nucleus sampling (Holtzman et al. 2020).

    A row with a grammar draws from what the grammar allows; ``logits`` are overwritten then. Each
    row inverts the cumulated probabilities at one uniform number of its own generator.
    """
    import torch

    scores = logits.float()
    # A sum with such a term is not finite either, and is found a thousand times as fast.
    if not torch.isfinite(scores.sum()):
        raise Diverged("the model gave scores that are not finite; try dtype: float32")
    cut(scores, [row.trail for row in rows])
    drawn = []
    temperatures = scores.new_tensor([[max(row.job.temperature, 1e-6)] for row in rows])
    probabilities = torch.softmax(scores / temperatures, dim=-1)
    likeliest = probabilities.topk(min(_LIKELIEST, probabilities.shape[-1]), dim=-1)
    for at, row in enumerate(rows):
        ordered, ids = likeliest.values[at].double(), likeliest.indices[at]
        uniform = row.random.random()
        if row.job.temperature == 0:
            drawn.append(int(ids[0]))
            continue
        if float(ordered.sum()) < row.job.top_p and len(ordered) < probabilities.shape[-1]:
            ordered, ids = probabilities[at].double().sort(descending=True, stable=True)
        mass = ordered.cumsum(dim=0)
        # The nucleus is the shortest run of likeliest tokens whose mass reaches top_p.
        size = int((mass < row.job.top_p).sum().clamp(max=len(mass) - 1)) + 1
        target = uniform * float(mass[size - 1])
        drawn.append(int(ids[min(int((mass[:size] <= target).sum()), size - 1)]))
    return drawn


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every end token that model or tokenizer names: an instruct model has two kinds."""
    named = model.generation_config.eos_token_id
    ends = list(named) if isinstance(named, list) else [named]
    ends += [tokenizer.eos_token_id, model.config.eos_token_id]
    return frozenset(e for e in ends if isinstance(e, int))
