"""Batches of samples for training: which ones, in which order, and the processes that read them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import Config, UserError
from utils.training.distributed import World


class EpochBatches:
    """Batches of sample numbers for one process, all of one size, shuffled by seed and epoch.

    sizes: samples of each training file. weights: of each file, its share of an epoch; None: every sample once.
    Every process draws the same order and takes its own share. What does not fill a batch everywhere is left for another epoch;
    a data set smaller than one batch is repeated to fill it.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float] | None, batch_size: int, world: World, seed: int):
        self.sizes, self.weights = sizes, weights
        self.batch_size, self.world, self.seed, self.epoch = batch_size, world, seed, 0
        self.count = max(1, sum(sizes) // (batch_size * world.size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(np.random.default_rng([self.seed, self.epoch]), self.sizes, self.weights)
        order = np.resize(order, self.count * self.world.size * self.batch_size).reshape(self.count, self.world.size, self.batch_size)
        return iter(order[:, self.world.rank].tolist())


def epoch_order(rng: np.random.Generator, sizes: Sequence[int], weights: Sequence[float] | None) -> np.ndarray:
    """(N,) numbers of an epoch's samples, N = sum(sizes), in the order of their turn; see `data.samples.TrainingSet` for the numbers.

    With weights each file gets its share of the N: some of its samples, none twice, or all of them several times, drawn anew each time.
    """
    total = sum(sizes)
    if weights is None:
        return rng.permutation(total)
    ends = np.rint(np.cumsum(weights) / np.sum(weights) * total).astype(int)
    parts = []
    for first, size, count in zip(np.cumsum(sizes) - sizes, sizes, np.diff(ends, prepend=0)):
        draws = range(-(-count // size))
        parts.append(np.concatenate([first + rng.permutation(size) + total * draw for draw in draws] or [np.zeros(0, int)])[:count])
    return rng.permutation(np.concatenate(parts))


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
    sys.excepthook = _silent_about_the_trainer
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _silent_about_the_trainer(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A trainer that was interrupted has said so; that it no longer answers, in the middle of handing over a batch, is no news."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


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
