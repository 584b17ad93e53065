"""Several processes that train one model, each on its share of every batch, on one machine or many.

    with processes(): ...        joins those that torchrun started; in a process of its own it changes nothing

Data parallel as in DDP: every process holds the weights, and gradients are averaged before a step; `shard` splits the
weights instead (FSDP2). A loss here is a mean over one's own share; the mean over processes is the loss of the batch,
and so is the mean of gradients, because `gather` and `shifted` pass gradients back to whoever sent the vectors.
In one process everything is the identity. Knows nothing of losses, towers or data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from awase.errors import UsageError

BUCKET = 2**23
"""Numbers of gradients that travel together: 32 MB of float32."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if _joined() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _joined() else 1


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def processes(device: str = "cpu") -> Iterator[None]:
    """Joins the processes that torchrun started, by nccl on "cuda" and by gloo elsewhere; leaves them at the end."""
    if "WORLD_SIZE" not in os.environ or _joined():
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def share(count: int) -> slice:
    """Which of `count` things are this process's: one in so many, so that what comes in runs, as the sets of a batch
    do, is everyone's. Raises UsageError where they do not divide."""
    if count % world():
        raise UsageError(f"{count} does not divide among {world()} processes; choose a multiple of {world()}")
    return slice(rank(), count, world())


# ---- vectors ---------------------------------------------------------------------------------------------------------


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, in order of rank: (b, ...) -> (W * b, ...). The gradient of a row goes back to whoever
    sent it, summed over all who used it. Every process must give as many rows."""
    return x if world() == 1 else _Gather.apply(x)  # type: ignore[no-untyped-call]


def gather_pairs_first(x: Tensor, pairs: int) -> Tensor:
    """The same with everyone's first `pairs` rows before all the others."""
    return gather(x) if len(x) == pairs else torch.cat([gather(x[:pairs]), gather(x[pairs:])])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        if distributed.get_backend() != "nccl":  # gloo cannot reduce and scatter in one
            summed = gradient.contiguous().clone()
            distributed.all_reduce(summed)
            return summed.chunk(world())[rank()]
        own = torch.empty_like(gradient.chunk(world())[0])
        distributed.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def shifted(x: Tensor) -> Tensor:
    """The tensor of the process before this one, in a ring; its gradient goes back there. All must be of one shape."""
    return x if world() == 1 else _Shifted.apply(x)  # type: ignore[no-untyped-call]


class _Shifted(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return _pass_on(x, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _pass_on(gradient, -1)


def _pass_on(x: Tensor, places: int) -> Tensor:
    received = torch.empty_like(x, memory_format=torch.contiguous_format)
    there, back = (rank() + places) % world(), (rank() - places) % world()
    both = [
        distributed.P2POp(distributed.isend, x.contiguous(), there),
        distributed.P2POp(distributed.irecv, received, back),
    ]
    for request in distributed.batch_isend_irecv(both):
        request.wait()
    return received


# ---- numbers and gradients -------------------------------------------------------------------------------------------


def mean(x: Tensor) -> Tensor:
    """The mean over processes, the same everywhere; no gradient."""
    return total(x) / world()


def total(x: Tensor) -> Tensor:
    """The sum over processes, the same everywhere; no gradient."""
    x = x.detach().clone()
    if world() > 1:
        distributed.all_reduce(x)
    return x


def same_everywhere(text: str, device: torch.device) -> bool:
    """Whether all processes give the same text."""
    if world() == 1:
        return True
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    most_and_least = torch.tensor([number, -number], device=device)
    distributed.all_reduce(most_and_least, distributed.ReduceOp.MAX)
    return int(most_and_least.sum()) == 0


def wait_for_all() -> None:
    if world() > 1:
        distributed.barrier()


@torch.no_grad()
def average_gradients(weights: Iterable[Tensor]) -> None:
    """Makes the gradients those of the mean loss. Sharded weights are passed over: theirs are averaged in backward."""
    if world() == 1:
        return
    found = [w.grad for w in weights if w.grad is not None and not isinstance(w, DTensor)]
    for bucket in _buckets(found):
        flat = mean(torch.cat([gradient.flatten() for gradient in bucket]))
        parts = torch.split(flat, [gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Sets tensors that each process has its own of, running statistics say, to their mean."""
    for tensor in tensors:
        if world() > 1 and tensor.is_floating_point():
            tensor.copy_(mean(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (sum(t.numel() for t in bucket) + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def shard(towers: nn.Module) -> None:
    """Splits weights, gradients and the optimiser's state among the processes, block by block (FSDP2; Zhao et al.,
    2023, arXiv:2304.11277). Scalars, such as the scale of scores, stay whole. Call it before weights are asked for."""
    from torch.distributed.fsdp import fully_shard

    whole = {weight for weight in towers.parameters() if weight.ndim == 0}
    for module in towers.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block)
    fully_shard(towers, ignored_params=whole)
