"""Batches of samples for training: which ones, in which order, and the processes that read them."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import Config, UserError
from utils.distributed import World


class EpochBatches:
    """Batches of sample numbers for one process, all of one size; shuffled by seed and epoch, or in order.

    Every process draws the same permutation and takes its own share. What does not fill a batch everywhere is left for another epoch;
    a data set smaller than one batch is repeated to fill it.
    """

    def __init__(self, samples: int, batch_size: int, world: World, seed: int):
        self.samples, self.batch_size, self.world, self.seed, self.epoch = samples, batch_size, world, seed, 0
        self.count = max(1, samples // (batch_size * world.size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.samples)
        order = np.resize(order, self.count * self.world.size * self.batch_size).reshape(self.count, self.world.size, self.batch_size)
        return iter(order[:, self.world.rank].tolist())


def build_loader(dataset: Dataset, batches: Iterable[list[int]], config: Config, world: World) -> DataLoader:
    """The samples of these batches, from `data.workers` processes."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=config.data.workers,
        pin_memory=world.device.type == "cuda",
        worker_init_fn=_quiet_worker,
    )


def _quiet_worker(_: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the trainer should answer it. One thread each: there are several workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def worker_errors_in_a_line() -> Iterator[None]:
    """Errors of loader processes, around whose messages PyTorch puts their tracebacks, as the one line that they were."""
    try:
        yield
    except (UserError, OSError) as error:
        if "in DataLoader worker process" not in str(error):
            raise
        raise UserError(str(error).strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")) from error
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError("a loader process was killed, perhaps for lack of memory; lower data.workers") from error
