"""The process's memory: running out of it said in one line, and freed memory kept for the next step."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator

from medslm.errors import OutOfMemory

# How torch words it on a CPU, where it raises a bare RuntimeError.
_WORDS = ("can't allocate memory", "not enough memory")
# mallopt(3), glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


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


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc reuse what tensors free instead of giving it back; False where there is no glibc.

    By default every tensor beyond 32 MB, and the top of the heap, goes back to the system when freed
    and is cleared again page by page when wanted: up to a fifth of a training step's time on a CPU
    (docs/log.md). Memory then stays at its highest, which a step reaches again anyway.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows, musl
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
