"""FSDP for a frozen base: its weights are spread over the processes, the adapters stay whole in each.

What is trained is small beside the base, so its gradients are summed as in DDP, and optimiser,
checkpoints and saved adapters are the same as with one process.
"""

from __future__ import annotations

import contextlib
from typing import Any

from medslm.errors import ParamsError
from medslm.models import Loaded
from medslm.student.settings import TuneParams

# Methods that add weights of their own and never compute with the base's outside a layer's forward pass.
_SHARDABLE = {"lora", "prefix"}


def shard(loaded: Loaded, tune: TuneParams) -> None:
    """Spread the frozen base over torch's default process group, block by block (torch's FSDP2).

    Call it before adapters are put on. A base in main memory goes to this process's GPU one block at
    a time, so none ever has to hold it whole. Raises ParamsError if the method trains the base
    itself, or the model does not name its blocks.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if tune.method not in _SHARDABLE:
        raise ParamsError(
            f"compute.strategy: fsdp spreads a frozen base; tune.method {tune.method} changes it: use ddp"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _give_the_head_weights_of_its_own(loaded.model, device)
    body = loaded.model.base_model
    names = set(getattr(loaded.model, "_no_split_modules", None) or ())
    blocks = [m for m in body.modules() if type(m).__name__ in names]
    if not blocks:
        raise ParamsError(
            f"compute.strategy: {loaded.base_id} does not say what its blocks are: use ddp"
        )
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for module in [*blocks, body]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    # the first pass fixes which blocks belong together, and a later one may use the upper ones only
    with torch.no_grad():
        body(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=False)


def _give_the_head_weights_of_its_own(model: Any, device: str) -> None:
    """Untie the output head, whose rows for the three answers are read outside any forward pass."""
    import torch

    head = model.get_output_embeddings()
    with contextlib.suppress(AttributeError):  # a head without bias
        head.bias.data = head.bias.data.to(device)
    head.weight = torch.nn.Parameter(head.weight.detach().clone().to(device), requires_grad=False)
