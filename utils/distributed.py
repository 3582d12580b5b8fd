"""How many processes and devices take part in a run."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn

from config import UserError
from config.schema import TrainConfig
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

    def wrap(self, step: nn.Module, settings: TrainConfig) -> nn.Module:
        """The training step, spread over the devices, its batch norms of one mind, compiled, as it is configured."""
        on_gpu = self.device.type == "cuda"
        if self.parallel == "data_parallel" and on_gpu:
            if settings.compile:
                raise UserError("train.compile: does not go with DataParallel; use train_distributed.py, or train.compile=false")
            return nn.DataParallel(step)
        if settings.sync_batchnorm and self.parallel == "distributed":
            step = nn.SyncBatchNorm.convert_sync_batchnorm(step) if on_gpu else convert_shared_batchnorm(step)
        if settings.compile:
            step.compile()
        if self.parallel != "distributed":
            return step
        return nn.parallel.DistributedDataParallel(
            step,
            device_ids=[self.device.index] if on_gpu else None,
            broadcast_buffers=not settings.sync_batchnorm,  # else they are the same everywhere
            gradient_as_bucket_view=True,  # no second copy of all gradients
            # Else the gradients are packed otherwise from the second step on, and with that the order of their sums changes: a run that
            # goes on from a checkpoint would differ in the last bit
            find_unused_parameters=not on_gpu or settings.deterministic,
        )

    @staticmethod
    def bare(step: nn.Module) -> nn.Module:
        """A step as it was before `wrap`."""
        return getattr(step, "module", step)

    def without_waiting(self, step: nn.Module) -> nn.Module:
        """A wrapped step for use without gradients, when processes may have different numbers of batches: they do not meet in it."""
        return self.bare(step) if self.parallel == "distributed" else step

    def gradients_shared(self, step: nn.Module, now: bool) -> AbstractContextManager:
        """Around forward and backward of a batch: not now where the gradient is added to before it is used."""
        later = not now and isinstance(step, nn.parallel.DistributedDataParallel)
        return step.no_sync() if later else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gathered(self, rows: Tensor) -> list[Tensor]:
        """Each process's rows (N, ...), by rank; the number N may be another one in each."""
        if self.size == 1:
            return [rows]
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(rows)
        counts = self.sum(lengths).tolist()
        padded = rows.new_zeros((max(counts), *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = rows
        of_each = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(of_each, padded)
        return [one[:count].to(rows.device) for one, count in zip(of_each, counts)]

    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers, such as batch-norm statistics that each has gathered by itself."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


class SharedBatchNorm2d(nn.BatchNorm2d):
    """What `nn.SyncBatchNorm` is on GPUs, for processes on CPUs: PyTorch has none."""

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W); N may be another one in each process."""
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = [wide.sum((0, 2, 3), dtype=torch.float64), wide.square().sum((0, 2, 3), dtype=torch.float64)]
        total, squares, count = dist_nn.all_reduce(torch.stack([*sums, torch.full_like(sums[0], x.numel() // x.shape[1])]))
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        if self.track_running_stats:
            self.num_batches_tracked += 1
            rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance * count / (count - 1)).detach().to(self.running_var.dtype), rate)
        normal = (wide - mean[:, None, None].to(wide.dtype)) * torch.rsqrt(variance + self.eps)[:, None, None].to(wide.dtype)
        return (normal * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else normal).to(x.dtype)


def convert_shared_batchnorm(module: nn.Module) -> nn.Module:
    """The module with `SharedBatchNorm2d` in the place of its batch norms, which keep their parameters and buffers."""
    if isinstance(module, nn.BatchNorm2d):
        shared = SharedBatchNorm2d(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        shared.__dict__ = {**shared.__dict__, **module.__dict__}
        return shared
    for name, child in module.named_children():
        setattr(module, name, convert_shared_batchnorm(child))
    return module


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
    meet("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(parallel, device, rank, size)
    finally:
        dist.destroy_process_group()


def meet(backend: str, timeout: timedelta | None = None) -> None:
    """Join the process group of those that torchrun has started together with this one. Raises RuntimeError where some do not come."""
    patience = timeout or dist.default_pg_timeout
    store, rank, size = next(dist.rendezvous("env://", timeout=patience))
    own_part = _of_this_start(store, rank, size, patience.total_seconds())
    dist.init_process_group(backend, store=own_part, rank=rank, world_size=size, timeout=timeout)


def _of_this_start(store: dist.Store, rank: int, size: int, patience: float) -> dist.Store:
    """A part of torchrun's store that nobody has used before.

    After a restart the store still holds the addresses of processes that are gone, where a new one that is earlier than the others would
    wait for them in vain. So the first process takes in the others by names that are theirs alone.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"asking/{rank}", own)
        start = store.get(f"start/{own}").decode()  # waits until it is there
        store.set(f"{start}/{rank}", "here")
        return dist.PrefixStore(start, store)
    missing, begun = set(range(1, size)), time.monotonic()
    while missing:
        if time.monotonic() - begun > patience:
            raise RuntimeError(f"{len(missing)} of {size} processes have not come after {patience:.0f} s")
        for other in missing:
            if store.check([f"asking/{other}"]):  # perhaps one that is gone, until the new one has asked
                store.set(f"start/{store.get(f'asking/{other}').decode()}", own)
        missing = {other for other in missing if not store.check([f"{own}/{other}"])}
        time.sleep(0.01)
    return dist.PrefixStore(own, store)
