"""Several processes that train one network: torch.distributed under `torchrun`, or a single process."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from ...ir.errors import TersorError
from .data import Share


@dataclass(frozen=True)
class Processes:
    """This process's rank among those that train together, and its device."""

    share: Share
    device: torch.device

    @property
    def first(self) -> bool:
        return self.share.rank == 0

    def wrapped(self, module: nn.Module, unused: bool) -> nn.Module:
        """The module with gradients averaged over the processes. unused: some parameters may get none."""
        if self.share.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=unused)

    def average(self, values: Sequence[torch.Tensor]) -> None:
        """Replace float tensors by their mean over the processes."""
        if self.share.count == 1 or not values:
            return
        together = torch.cat([v.detach().double().flatten() for v in values])
        dist.all_reduce(together)
        for v, part in zip(values, torch.split(together / self.share.count, [v.numel() for v in values])):
            v.copy_(part.reshape(v.shape).to(v.dtype))

    def total(self, *values: float) -> list[float]:
        """Sums over the processes."""
        if self.share.count == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(together)
        return [float(v) for v in together]

    def wait(self) -> None:
        if self.share.count > 1:
            dist.barrier()


def join_processes(device: str) -> Processes:
    """The process group that is there, or the one that `torchrun` describes in the environment; else this process alone.

    A group made here stays until the program ends: making a second one would race with the end of the first.
    """
    at = _device(device)
    if not dist.is_available() or (not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1):
        return Processes(Share(), at)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if at.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Processes(Share(dist.get_rank(), dist.get_world_size()), at)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _device(name: str) -> torch.device:
    """`cpu`, `cuda` (each process of a machine its own), `cuda:1`."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TersorError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise TersorError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise TersorError(f"device {name!r}: torch finds no CUDA device here; device=cpu trains on the processor")
        device = device if device.index is not None else torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device
