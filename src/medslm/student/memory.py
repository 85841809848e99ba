"""Running out of memory, said in one line instead of a traceback out of the depths of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from medslm.errors import OutOfMemory

# How torch words it on a CPU, where it raises a bare RuntimeError.
_WORDS = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def memory_named(where: Callable[[], str]) -> Iterator[None]:
    """Turn memory errors of Python and torch into OutOfMemory, which says ``where`` and what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as exc:
        said = str(exc)
        # torch.OutOfMemoryError, of a GPU, is a RuntimeError too
        known = isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError"
        if not known and not any(words in said for words in _WORDS):
            raise
        raise OutOfMemory(
            f"{where()}: out of memory; checkpoints are kept: lower tune.batch_size or "
            "student.max_tokens, or free memory and run again"
        ) from exc
