"""Score prompts that begin alike: what they have in common at their beginning is computed once.

Several questions about one abstract, and one question asked in several ways, differ in their last few
tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medslm.data.records import Answer
from medslm.models import Loaded
from medslm.student.frozen import FrozenLayers, frozen_below
from medslm.student.padding import padded_ids
from medslm.student.prefixes import groups
from medslm.student.prompting import encode
from medslm.student.scoring import Scorer, rounded, warn_of_cuts

Asked = tuple[str, str, Sequence[Answer]]  # context, question, and the answers as they are offered


class SharedScorer(Scorer):
    """A Scorer for groups of prompts; ``cut`` counts those whose abstract lost its beginning.

    Models whose layers cannot be taken apart, or with several tokens per answer, run every prompt
    alone: the same result, more slowly.
    """

    def __init__(self, loaded: Loaded, *, max_tokens: int, batch_size: int) -> None:
        super().__init__(loaded, max_tokens=max_tokens, batch_size=batch_size)
        self.cut = 0
        depth = self.head.lm.config.get_text_config().num_hidden_layers
        self.layers: FrozenLayers | None = frozen_below(self.head.body, [depth])

    def asked(self, items: Sequence[Asked]) -> list[dict[Answer, float]]:
        """Return the probabilities of the three answers per item, in order."""
        return self.score(self.encoded(items))

    def encoded(self, items: Sequence[Asked]) -> list[list[int]]:
        """Return the tokens of each item's prompt, and count those that had to be cut."""
        found = [encode(self.tokenizer, *item, max_tokens=self.max_tokens) for item in items]
        warn_of_cuts([e.cut for e in found], self.max_tokens)
        self.cut += sum(1 for e in found if e.cut)
        return [e.ids for e in found]

    def score(self, prompts: Sequence[Sequence[int]]) -> list[dict[Answer, float]]:
        """Return the probabilities for tokenised prompts, in order; equal beginnings run once."""
        import torch

        if self.layers is None or not self.head.one_token or not prompts:
            return super().score(prompts)
        with torch.inference_mode():
            logits = self.head.output.some(self.states(prompts), self.head.label_index)
            return [rounded(row) for row in torch.log_softmax(logits, dim=-1).exp().tolist()]

    def states(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return the body's output at the last token of each prompt: (prompts, features), in order."""
        import torch

        self.head.require_room([len(p) for p in prompts])
        found: list[Any] = [None] * len(prompts)
        with torch.inference_mode():
            if self.layers is None:
                for start in range(0, len(prompts), self.batch_size):
                    batch = prompts[start : start + self.batch_size]
                    found[start : start + len(batch)] = self._alone(batch)
                return torch.stack(found)
            for group, row in self.layers.states(prompts, groups(prompts), self.batch_size):
                end = group.shared
                for member in group.members:
                    rest = len(prompts[member]) - group.shared
                    end += rest
                    # a prompt that is all beginning ends where the beginning does
                    found[member] = row[(end if rest else group.shared) - 1]
            return self.layers.norm(torch.stack(found))

    def _alone(self, batch: Sequence[Sequence[int]]) -> list[Any]:
        import torch

        ids = padded_ids(batch, self.head.room).to(self.head.label_index.device)
        hidden = self.head.body(input_ids=ids, use_cache=False).last_hidden_state
        last = torch.tensor([len(p) - 1 for p in batch], device=ids.device)
        return list(hidden[torch.arange(len(batch), device=ids.device), last])
