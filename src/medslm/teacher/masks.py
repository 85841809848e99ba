"""Which tokens a grammar lets follow: llguidance tells, and the scores of all others are cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from medslm.errors import ParamsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Trail:
    """One reply's way through a grammar, token by token."""

    def __init__(self, matcher: Any, blank: NDArray[np.bool_]) -> None:
        self._matcher = matcher
        self._blank = blank
        self.allowed = self._look()

    def take(self, token: int) -> None:
        """Go on by a token that was allowed; ValueError if it was not."""
        if not self._matcher.consume_token(token):
            raise ValueError(f"token {token} does not fit the grammar: {self._matcher.get_error()}")
        self.allowed = self._look()

    @property
    def done(self) -> bool:
        """Tell whether the reply is whole and nothing but blanks and its end could still come."""
        return bool(self._matcher.is_accepting() and not (self.allowed & ~self._blank).any())

    def _look(self) -> NDArray[np.bool_]:
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, count=len(self._blank), bitorder="little").view(np.bool_)


class Grammars:
    """Opens trails through grammars over one tokenizer's vocabulary; each is compiled once."""

    def __init__(self, tokenizer: Any, size: int, ends: Iterable[int]) -> None:
        import numpy as np
        from llguidance.hf import from_tokenizer

        ends = sorted(ends)
        try:
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=size, eos_token=ends)
        except ValueError as exc:
            raise ParamsError(
                f"constrained: a grammar cannot be put on this model's tokenizer ({exc}); "
                "set constrained: false"
            ) from exc
        texts = (self._tokenizer.decode_bytes([token]) for token in range(size))
        self._blank = np.fromiter((not text.strip() for text in texts), np.bool_, size)
        self._blank[ends] = True
        self._compiled: dict[str, Any] = {}

    def open(self, grammar: str) -> Trail:
        """Return the beginning of a reply; ValueError if the grammar is no grammar."""
        from llguidance import LLMatcher

        if grammar not in self._compiled:
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
            if matcher.is_error():
                raise ValueError(f"a grammar that cannot be read: {matcher.get_error()}")
            self._compiled[grammar] = matcher
        return Trail(self._compiled[grammar].deep_copy(), self._blank)


def cut(scores: Tensor, trails: Sequence[Trail | None]) -> None:
    """Set scores to minus infinity, in place and row by row, where the row's grammar says no."""
    import torch

    # One mask for all rows would be shared out among threads, which takes longer than the work.
    for row, trail in zip(scores, trails, strict=True):
        if trail is not None:
            row.masked_fill_(torch.from_numpy(~trail.allowed).to(row.device), float("-inf"))
