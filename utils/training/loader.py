"""Batches of samples for training: which ones, in which order, and the processes that read them."""

from __future__ import annotations

import ctypes
import math
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from traceback import clear_frames
from types import TracebackType

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import Config, UserError
from data.datasets import collate
from utils.distributed import DistributedContext

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
GRACE = 20  # seconds
POOL = 64  # blocks
KEPT = 2**25  # bytes, the most that glibc takes for this
AHEAD = 4  # batches that each process has ready: one large photograph must not keep the device waiting


class EpochBatches:
    """Batches of items of a `MixedDataset` for one process, shuffled by seed and epoch: what is left of the epoch after `taken` samples.

    sizes: samples of each training file. weights: of each file, its share of an epoch; None: every sample once. accumulate: batches of
    an optimizer step. block: see `shuffled`.
    Every process draws the same order and takes its own share, so that a run goes on with the same samples in another number of
    processes. What does not fill a step everywhere is left for another epoch; a data set smaller than one step is repeated to fill it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float] | None,
        batch_size: int,
        world: DistributedContext,
        seed: int,
        accumulate: int = 1,
        block: int | None = None,
    ):
        self.sizes, self.weights, self.world, self.seed, self.block = sizes, weights, world, seed, block
        self.shape = (accumulate, world.size, batch_size)  # of a step
        self.epoch = self.taken = 0

    def __len__(self) -> int:
        return self._steps * self.shape[0]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.steps()[:, :, self.world.rank].reshape(-1, self.shape[-1]).tolist():
            yield [(self.epoch, number) for number in batch]

    def steps(self) -> np.ndarray:
        """(steps, batches of a step, processes, samples of a batch) numbers of the samples that are left."""
        order = epoch_order(np.random.default_rng([self.seed, self.epoch]), self.sizes, self.weights, self.block)[self.taken :]
        return np.resize(order, (self._steps, *self.shape))

    @property
    def _steps(self) -> int:
        left = (sum(self.sizes) - self.taken) // math.prod(self.shape)
        return max(left, 0 if self.taken else 1)


def epoch_order(rng: np.random.Generator, sizes: Sequence[int], weights: Sequence[float] | None, block: int | None = None) -> np.ndarray:
    """(N,) numbers of an epoch's samples, N = sum(sizes), in the order of their turn; see `data.datasets.MixedDataset` for the numbers.

    With weights each file gets its share of the N: some of its samples, none twice, or all of them several times, drawn anew each time.
    block: see `shuffled`.
    """
    total = sum(sizes)
    if weights is None:
        return shuffled(rng, np.arange(total), block)
    ends = np.rint(np.cumsum(weights) / np.sum(weights) * total).astype(int)
    parts = []
    for first, size, count in zip(np.cumsum(sizes) - sizes, sizes, np.diff(ends, prepend=0)):
        draws = range(-(-count // size))
        numbers = [shuffled(rng, first + np.arange(size) + total * draw, block) for draw in draws]
        parts.append(np.concatenate(numbers or [np.zeros(0, int)])[:count])
    if block is None:
        return rng.permutation(np.concatenate(parts))
    # Each file's samples stay in their turn, and are spread evenly over the epoch
    turns = np.concatenate([(np.arange(len(part)) + rng.random()) / max(1, len(part)) for part in parts])
    return np.concatenate(parts)[np.argsort(turns, kind="stable")]


def shuffled(rng: np.random.Generator, numbers: np.ndarray, block: int | None) -> np.ndarray:
    """In any order. block: so many neighbours stay together, and POOL such blocks from all over the file are mixed at a time, which the
    system's file cache can hold where it cannot hold the whole file; None: all numbers are mixed."""
    if block is None:
        return rng.permutation(numbers)
    blocks = np.array_split(numbers, range(block, len(numbers), block))
    order = rng.permutation(len(blocks))
    pools = [np.concatenate([blocks[n] for n in order[start : start + POOL]]) for start in range(0, len(order), POOL)]
    return np.concatenate([rng.permutation(pool) for pool in pools])


def build_loader(
    dataset: Dataset, batches: Iterable[list[tuple[int, int]]], config: Config, world: DistributedContext, stays: bool
) -> DataLoader:
    """The samples of these batches, from `data.workers` processes. stays: whether they stay for the next epoch, to begin it at once."""
    workers = config.data.workers
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        persistent_workers=stays and workers > 0,
        pin_memory=world.device.type == "cuda",
        worker_init_fn=_quiet_worker,
        generator=torch.Generator().manual_seed(config.train.seed),  # of the workers' seeds; the common one is left alone
    )


@contextmanager
def ending(loader: DataLoader) -> Iterator[None]:
    """With this end the processes of a loader that stay, whoever still holds it, such as an error's traceback."""
    try:
        yield
    finally:
        iterator = loader._iterator  # PyTorch has no other way
        if iterator is not None and loader.num_workers:
            iterator._shutdown_workers()
            loader._iterator = None


def begin_epoch(loader: DataLoader, epoch: int, taken: int = 0) -> None:
    """Have a loader of `EpochBatches` give an epoch, counted from 0, but for so many of its samples."""
    loader.batch_sampler.epoch = epoch
    loader.batch_sampler.taken = taken


def images_of(loader: DataLoader, epoch: int, taken: int, ranks: list[int]) -> list[int]:
    """Return the image ids of the step that begins after `taken` samples of the epoch, of these ranks' batches."""
    sampler = loader.batch_sampler
    begun = sampler.epoch, sampler.taken
    sampler.epoch, sampler.taken = epoch, taken
    numbers = sampler.steps()[0, :, ranks].ravel().tolist()
    sampler.epoch, sampler.taken = begun
    return [loader.dataset.image_id(number) for number in numbers]


def _quiet_worker(_: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the trainer should answer it. One thread each: there are several workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A scheduler's SIGTERM reaches every process too: for a while the trainer still needs its batches, to end with a checkpoint
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.excepthook = _silent_about_the_trainer
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have the C library keep what is freed. Memory of each image, and on a CPU of each step's maps, would come from the kernel anew, page
    by page: a fifth of a loader's time, a tenth of a step's."""
    with suppress(OSError, AttributeError):  # glibc's; others do as they do
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, KEPT)


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
        clear_frames(error.__traceback__)  # they hold a validation's loader, whose processes would outlive it
        raise UserError(str(error).strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")) from error
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError("a loader process was killed, perhaps for lack of memory; lower data.workers") from error
