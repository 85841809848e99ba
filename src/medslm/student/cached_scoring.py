"""Score on cached states: every further adapter of a base runs its own layers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medslm.errors import IntegrityError
from medslm.models import Loaded
from medslm.student.cached import REDO, CachedStates
from medslm.student.frozen import FrozenLayers
from medslm.student.methods import adapted_in, is_tuned
from medslm.student.scoring import Scorer


class CachedScorer(Scorer):
    """A Scorer whose prompts enter above the frozen layers; DataError for a prompt without states."""

    def __init__(
        self, loaded: Loaded, states: CachedStates, *, max_tokens: int, batch_size: int
    ) -> None:
        """Raise IntegrityError if the model has adapter weights below the states' layer."""
        super().__init__(loaded, max_tokens=max_tokens, batch_size=batch_size)
        if is_tuned(loaded.model) and min(adapted_in(loaded.model) or [0]) < states.first:
            raise IntegrityError(f"{states.index}: holds states of layers with adapters; {REDO}")
        self.states = states
        self.frozen = FrozenLayers(self.head.body, states.first)

    def logits(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return the logits of one batch, shape (prompts, 3), from its states."""
        hidden = self.frozen.finish(list(self.states.of(prompts)))
        return self.head.answer_logits(hidden, [len(p) for p in prompts])
