"""The ranks of a run, their devices, and the communication between them."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from config import UserError
from config.schema import TrainConfig
from utils.device import default_device, uses_compile

Parallel = Literal["none", "data_parallel", "distributed"]
LONGEST_EVALUATION = timedelta(days=1)  # from the first rank's end to the last one's; torchrun ends all ranks where one dies


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
            if settings.compile is True:
                raise UserError("train.compile: does not go with DataParallel; use train_distributed.py, or train.compile=false")
            return nn.DataParallel(step)
        synchronized = settings.sync_batchnorm and self.parallel == "distributed" and on_gpu  # PyTorch has none for CPUs
        if synchronized:
            step = nn.SyncBatchNorm.convert_sync_batchnorm(step)
        if self.compiles(settings):
            if not on_gpu:
                check_compiler()
            step.compile()
        if self.parallel != "distributed":
            return step
        parallel = nn.parallel.DistributedDataParallel
        renamed = "forward_sync_buffers" in signature(parallel).parameters  # from PyTorch 2.14 on
        buffers = {"forward_sync_buffers" if renamed else "broadcast_buffers": not synchronized}  # synchronized norms are equal everywhere
        return parallel(
            step,
            device_ids=[self.device.index] if on_gpu else None,
            **buffers,
            gradient_as_bucket_view=True,  # no second copy of all gradients
            # Otherwise DDP repacks the gradients after the first step, which changes the order of their sums: a resumed run would differ
            # in the last bit
            find_unused_parameters=not on_gpu or settings.deterministic,
        )

    def compiles(self, settings: TrainConfig) -> bool:
        """Return whether `wrap` compiles the step. With auto, not for DataParallel."""
        setting = False if settings.compile == "auto" and self.parallel == "data_parallel" else settings.compile
        return uses_compile(setting, self.device)

    @staticmethod
    def unwrap(step: nn.Module) -> nn.Module:
        """Return the step that `wrap` was given."""
        return getattr(step, "module", step)

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

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def shared_gpu(self) -> str | None:
        """Return the name of the GPU that this rank shares with others where there are more ranks than GPUs; None: the default device."""
        if self.size == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"


def check_compiler() -> None:
    """Raise UserError where PyTorch finds no C++ compiler, which it would miss in the first step only."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # slow to import

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        remedy = "install one (apt install g++), name it in the variable CXX, or use train.compile=false"
        raise UserError(f"train.compile: needs a C++ compiler, and there is none; {remedy}") from error


def distributed_context(parallel: Parallel) -> AbstractContextManager[DistributedContext]:
    """Join the ranks that torchrun started, for "distributed"; otherwise return a single rank."""
    if parallel != "distributed":
        return nullcontext(DistributedContext(parallel, default_device()))
    if "RANK" not in os.environ:
        raise UserError("train_distributed.py is started by torchrun: torchrun --nproc_per_node=N train_distributed.py ...")
    if not torch.cuda.is_available():
        return _joined_ranks("gloo", torch.device("cpu"), dist.default_pg_timeout)
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= gpus:
        raise UserError(f"process {local} of this machine has no GPU: there are {gpus}; lower --nproc_per_node")
    torch.cuda.set_device(local)
    return _joined_ranks("nccl", torch.device("cuda", local), dist.default_pg_timeout)


def evaluation_context() -> AbstractContextManager[DistributedContext]:
    """Join the ranks that torchrun started, if it did, to share images. They communicate by CPU, so several can use one GPU."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return nullcontext(DistributedContext("none", torch.device("cpu")))
    return _joined_ranks("gloo", torch.device("cpu"), LONGEST_EVALUATION)


@contextmanager
def _joined_ranks(backend: str, device: torch.device, timeout: timedelta) -> Iterator[DistributedContext]:
    """timeout: for which a rank waits for the others in an operation."""
    try:
        init_process_group(backend, timeout)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot reach the other processes ({error}); start all of them with torchrun") from error
    try:
        yield DistributedContext("distributed", device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def init_process_group(backend: str, timeout: timedelta) -> None:
    """Join the ranks that torchrun started together with this one. Raises RuntimeError where some do not come.

    `dist.init_process_group` alone does not survive a restart by torchrun: its agent keeps one store for all restarts, and a rank that
    starts earlier than another one reads the other's former address there, and fails or hangs (seen with PyTorch 2.14). No variable of
    torchrun tells the restarts of several machines apart. So rank 0 names a new part of the store for each start. The others ask in the
    part that the store names, perhaps that of the last start, until rank 0 of this one answers.
    """
    store, rank, size = next(dist.rendezvous("env://"))
    token = uuid.uuid4().hex
    if rank == 0:
        start = token
        store.set("start", start)
        for other in range(1, size):
            store.set(store.get(f"{start}/{other}").decode(), start)  # `get` waits for the key
    else:
        while not store.check([token]):
            store.set(f"{store.get('start').decode()}/{rank}", token)
            time.sleep(0.01)
        start = store.get(token).decode()
    dist.init_process_group(backend, store=dist.PrefixStore(start, store), rank=rank, world_size=size, timeout=timeout)
