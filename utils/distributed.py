"""The ranks of a run, their devices, and the communication between them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from config import UserError
from config.schema import TrainConfig
from utils.device import default_device

Parallel = Literal["none", "data_parallel", "distributed"]


@dataclass(frozen=True)
class DistributedContext:
    """This process's rank among `size`, and its device."""

    parallel: Parallel
    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, step: nn.Module, settings: TrainConfig) -> nn.Module:
        """Return the training step for all devices, with synchronized batch norms and compiled, as configured."""
        on_gpu = self.device.type == "cuda"
        if self.parallel == "data_parallel" and on_gpu:
            if settings.compile:
                raise UserError("train.compile: does not go with DataParallel; use train_distributed.py, or train.compile=false")
            return nn.DataParallel(step)
        synchronized = settings.sync_batchnorm and self.parallel == "distributed" and on_gpu  # PyTorch has none for CPUs
        if synchronized:
            step = nn.SyncBatchNorm.convert_sync_batchnorm(step)
        if settings.compile:
            step.compile()
        if self.parallel != "distributed":
            return step
        return nn.parallel.DistributedDataParallel(
            step,
            device_ids=[self.device.index] if on_gpu else None,
            broadcast_buffers=not synchronized,  # synchronized batch norms are equal on all ranks
            gradient_as_bucket_view=True,  # no second copy of all gradients
            # Otherwise DDP repacks the gradients after the first step, which changes the order of their sums: a resumed run would differ
            # in the last bit
            find_unused_parameters=not on_gpu or settings.deterministic,
        )

    @staticmethod
    def unwrap(step: nn.Module) -> nn.Module:
        """Return the step that `wrap` was given."""
        return getattr(step, "module", step)

    def local_module(self, step: nn.Module) -> nn.Module:
        """Return a wrapped step for use without gradients where ranks may have different numbers of batches: no rank waits in it."""
        return self.unwrap(step) if self.parallel == "distributed" else step

    def grad_sync(self, step: nn.Module, now: bool) -> AbstractContextManager:
        """Wrap forward and backward of one batch. now: all-reduce its gradient; else the gradient is only accumulated."""
        later = not now and isinstance(step, nn.parallel.DistributedDataParallel)
        return step.no_sync() if later else nullcontext()

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over all ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_gather(self, value: Any) -> list[Any]:
        """Return each rank's value, by rank: anything that pickles, with tensors on the CPU."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of rank 0, such as batch-norm statistics, to all ranks."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def barrier(self, timeout: timedelta | None = None) -> None:
        """Wait for all ranks. timeout: for ranks on CPUs; default: the process group's, half an hour."""
        if self.size > 1:
            dist.barrier() if timeout is None else dist.monitored_barrier(timeout=timeout)

    def shared_gpu(self) -> str | None:
        """Return the name of the GPU that this rank shares with others where there are more ranks than GPUs; None: the default device."""
        if self.size == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


@contextmanager
def distributed_context(parallel: Parallel) -> Iterator[DistributedContext]:
    """Join the ranks that torchrun started; otherwise yield a single rank."""
    if parallel != "distributed":
        yield DistributedContext(parallel, default_device())
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
    init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield DistributedContext(parallel, device, rank, size)
    finally:
        dist.destroy_process_group()


@contextmanager
def evaluation_context() -> Iterator[DistributedContext]:
    """Join the ranks that torchrun started, if it did, to share images. They communicate by CPU, so several can use one GPU."""
    rank, size = (int(os.environ.get(key, default)) for key, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    if size == 1:
        yield DistributedContext("none", torch.device("cpu"), rank, size)
        return
    try:
        init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"process {rank} of {size}: cannot reach the others ({error}); start all of them with torchrun") from error
    try:
        yield DistributedContext("distributed", torch.device("cpu"), rank, size)
    finally:
        dist.destroy_process_group()


def init_process_group(backend: str, timeout: timedelta | None = None) -> None:
    """Join the ranks that torchrun started together with this one. Raises RuntimeError where some do not come.

    `dist.init_process_group` alone does not survive a restart by torchrun: its agent keeps one store for all restarts, and a rank that
    starts earlier than another one reads the other's former address there, and fails or hangs (seen with PyTorch 2.14). No variable of
    torchrun tells the restarts of several machines apart. So rank 0 names a new part of the store, and passes the name to each rank under a
    key that is new at each start.
    """
    timeout = timeout or dist.default_pg_timeout
    store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    token = uuid.uuid4().hex
    if rank:
        store.set(f"asking/{rank}", token)
        start = store.get(token).decode()  # waits until rank 0 has set it
        store.set(f"{start}/{rank}", "here")
    else:
        start, missing, deadline = token, set(range(1, size)), time.monotonic() + timeout.total_seconds()
        while missing:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(missing)} of {size} processes have not come after {timeout.total_seconds():.0f} s")
            for other in missing:
                if store.check([f"asking/{other}"]):  # of a former start, until this start's rank has asked
                    store.set(store.get(f"asking/{other}").decode(), start)
            missing = {other for other in missing if not store.check([f"{start}/{other}"])}
            time.sleep(0.01)
    dist.init_process_group(backend, store=dist.PrefixStore(start, store), rank=rank, world_size=size, timeout=timeout)
