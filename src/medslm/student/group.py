"""The processes that train one cell together: each takes a part of every batch, all keep the same adapter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Group(Protocol):
    """What a cell needs of the processes that share it."""

    rank: int
    size: int

    def share(self, rows: Sequence[int]) -> list[int]:
        """Return this process's rows of a batch; every row belongs to exactly one process."""

    def sum(self, tensor: Any) -> Any:
        """Return the sum of all processes' tensors, the same bits in each."""

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace every gradient by its sum over the processes."""


class Alone:
    """One process: everything is its own."""

    rank = 0
    size = 1

    def share(self, rows: Sequence[int]) -> list[int]:
        """Return all rows."""
        return list(rows)

    def sum(self, tensor: Any) -> Any:
        """Return the tensor itself."""
        return tensor

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Leave the gradients as they are."""


class Ranks:
    """The processes of torch's default process group, which must be there already.

    The loss is divided by the whole batch before the gradients are summed, so a sum (not torch DDP's
    mean over processes) equals the single process also when the parts are of different size.
    """

    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def share(self, rows: Sequence[int]) -> list[int]:
        """Return every ``size``-th row: a batch is sorted by length, so all parts cost about the same."""
        return list(rows[self.rank :: self.size])

    def sum(self, tensor: Any) -> Any:
        """Return the sum of all processes' tensors, the same bits in each."""
        import torch.distributed as dist

        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Sum all gradients in one message: adapters are small, and a message has a fixed price."""
        import torch

        gradients = [p.grad for p in parameters if p.grad is not None]
        total = self.sum(torch.cat([g.flatten() for g in gradients]))
        parts = torch.split(total, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
