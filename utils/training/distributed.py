"""How many processes and devices take part in a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from config import UserError
from utils.device import default_device

Parallel = Literal["none", "data_parallel", "distributed"]


@dataclass(frozen=True)
class World:
    """This process's place: its rank among `size` processes, and its device."""

    parallel: Parallel
    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, step: nn.Module, sync_batchnorm: bool) -> nn.Module:
        """The training step, spread over the devices. The batch-norm statistics are shared on GPUs only: PyTorch has no other."""
        if self.parallel == "data_parallel" and self.device.type == "cuda":
            return nn.DataParallel(step)
        if self.parallel != "distributed":
            return step
        if sync_batchnorm and self.device.type == "cuda":
            step = nn.SyncBatchNorm.convert_sync_batchnorm(step)
        return nn.parallel.DistributedDataParallel(step, device_ids=[self.device.index] if self.device.type == "cuda" else None)

    @staticmethod
    def bare(step: nn.Module) -> nn.Module:
        """A step as it was before `wrap`."""
        return getattr(step, "module", step)

    def without_waiting(self, step: nn.Module) -> nn.Module:
        """A wrapped step for use without gradients, when processes may have different numbers of batches: they do not meet in it."""
        return self.bare(step) if self.parallel == "distributed" else step

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(parallel: Parallel) -> Iterator[World]:
    """Join the processes that torchrun started; without it, or for the other kinds of training, this process is alone."""
    if parallel != "distributed":
        yield World(parallel, default_device())
        return
    if "RANK" not in os.environ:
        raise UserError("train_distributed.py is started by torchrun: torchrun --nproc_per_node=N train_distributed.py ...")
    rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}; lower --nproc_per_node")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(parallel, device, rank, size)
    finally:
        dist.destroy_process_group()
