"""Batches of samples for training: which ones, in which order, and the DataLoader workers that read them."""

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from config import Config, UserError
from config.memory import keep_freed_memory
from config.signals import leave_signals_to_parent
from data.datasets import MixedDataset, collate
from data.workers import WorkerLoader
from utils.distributed import DistributedContext

GRACE = 20  # seconds after a SIGTERM, in which the trainer needs batches, to end with a checkpoint
POOL = 64  # blocks
SHARED_MEMORY, MORE_SHARED_MEMORY = Path("/dev/shm"), "enlarge it (docker run --shm-size=8g), or set data.workers=0"
PREFETCH = 4  # batches that each worker has ready: one large image must not keep the device waiting


def build_loaders(config: Config, context: DistributedContext) -> tuple[DataLoader, DataLoader]:
    """Return the batches of this rank's training samples, and of its validation samples."""
    settings, data = config.train, config.data
    check_training_files(config)
    train_set, val_set = MixedDataset(data.train_files, config, augment=True), MixedDataset(data.val_files, config, augment=False)
    size = settings.batch_size
    sampler = EpochBatchSampler(train_set.sizes, data.train_weights, size, context, settings.seed, settings.accumulate, data.shuffle_block)
    val_batches = [[(0, n) for n in range(i, min(i + size, len(val_set)))] for i in range(0, len(val_set), size)]
    val_batches = val_batches[context.rank :: context.size]
    return build_loader(train_set, sampler, config, context, True), build_loader(val_set, val_batches, config, context, False)


def check_training_files(config: Config, source: str = "configuration") -> None:
    """Raise UserError, which begins with `source`, where the configuration has no training or no validation file."""
    for key, files in (("train", config.data.train_files), ("val", config.data.val_files)):
        if not files:
            raise UserError(f"{source}: data.{key}: no training file is configured; build one with data/coco_masks_hdf5.py")


def build_loader(
    dataset: Dataset, batches: Iterable[list[tuple[int, int]]], config: Config, context: DistributedContext, persistent: bool
) -> DataLoader:
    """Return a loader of these batches with `data.workers` workers. persistent: the workers stay, to begin the next epoch at once."""
    workers = config.data.workers
    if workers:
        check_shared_memory(workers * config.train.batch_size * 3 * math.prod(config.data.input_size))
    return WorkerLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        persistent_workers=persistent and workers > 0,
        pin_memory=context.device.type == "cuda",
        worker_init_fn=_init_worker,
        generator=torch.Generator().manual_seed(config.train.seed),  # seeds the workers; the global generator is left alone
    )


@dataclass
class EpochBatchSampler:
    """Batches of items of a `MixedDataset` for one rank, shuffled by seed and epoch: the samples of an epoch after `samples_seen`.

    sizes: samples of each training file. weights: each file's fraction of an epoch; None: every sample once. accumulate: batches of an
    optimizer step. block: see `shuffled`.
    Every rank computes the same order and takes its own part of each step, so that a run resumes with the same samples in another number
    of ranks. Samples that do not fill a step on all ranks are skipped; a data set smaller than one step is repeated to fill it.
    """

    sizes: Sequence[int]
    weights: Sequence[float] | None
    batch_size: int
    context: DistributedContext
    seed: int
    accumulate: int = 1
    block: int | None = None
    epoch: int = 0
    samples_seen: int = 0

    def __post_init__(self) -> None:
        self.step_shape = (self.accumulate, self.context.size, self.batch_size)

    def set_epoch(self, epoch: int, samples_seen: int = 0) -> None:
        """Set the epoch, counted from 0, and how many of its samples to skip."""
        self.epoch, self.samples_seen = epoch, samples_seen

    def __len__(self) -> int:
        return self._steps_left(self.samples_seen) * self.step_shape[0]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.steps(self.epoch, self.samples_seen)[:, :, self.context.rank].reshape(-1, self.step_shape[-1]).tolist():
            yield [(self.epoch, number) for number in batch]

    def steps(self, epoch: int, samples_seen: int) -> np.ndarray:
        """Return (steps, batches of a step, ranks, samples of a batch) numbers of an epoch's remaining samples."""
        order = epoch_order(np.random.default_rng([self.seed, epoch]), self.sizes, self.weights, self.block)[samples_seen:]
        return np.resize(order, (self._steps_left(samples_seen), *self.step_shape))

    def _steps_left(self, samples_seen: int) -> int:
        left = (sum(self.sizes) - samples_seen) // math.prod(self.step_shape)
        return max(left, 0 if samples_seen else 1)


def epoch_order(rng: np.random.Generator, sizes: Sequence[int], weights: Sequence[float] | None, block: int | None = None) -> np.ndarray:
    """Return (N,) numbers of an epoch's samples in their order, N = sum(sizes); see `data.datasets.MixedDataset` for the numbers.

    With weights each file gets its fraction of the N: some of its samples, none twice, or all of them several times, shuffled anew each
    time. block: see `shuffled`.
    """
    total = sum(sizes)
    if weights is None:
        return shuffled(rng, np.arange(total), block)
    ends = np.rint(np.cumsum(weights) / np.sum(weights) * total).astype(int)
    parts = []
    for first, size, count in zip(np.cumsum(sizes) - sizes, sizes, np.diff(ends, prepend=0)):
        repeats = range(-(-count // size))
        numbers = [shuffled(rng, first + np.arange(size) + total * repeat, block) for repeat in repeats]
        parts.append(np.concatenate(numbers or [np.zeros(0, int)])[:count])
    if block is None:
        return rng.permutation(np.concatenate(parts))
    # Each file's samples keep their order and are spread evenly over the epoch
    turns = np.concatenate([(np.arange(len(part)) + rng.random()) / max(1, len(part)) for part in parts])
    return np.concatenate(parts)[np.argsort(turns, kind="stable")]


def shuffled(rng: np.random.Generator, numbers: np.ndarray, block: int | None) -> np.ndarray:
    """Return the numbers in random order.

    block: this many neighbors stay together, and POOL such blocks from all over the file are mixed at a time, which the system's file
    cache can hold where it cannot hold the whole file. None: all numbers are mixed.
    """
    if block is None:
        return rng.permutation(numbers)
    blocks = np.array_split(numbers, range(block, len(numbers), block))
    order = rng.permutation(len(blocks))
    pools = [np.concatenate([blocks[n] for n in order[start : start + POOL]]) for start in range(0, len(order), POOL)]
    return np.concatenate([rng.permutation(pool) for pool in pools])


# Workers


def check_shared_memory(least: int) -> None:
    """Raise UserError where workers have less, in bytes, to hand over their batches: they would be killed."""
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else least
    if free < least:
        size = f"{free / 2**20:.1f} MiB are free, data.workers need {least / 2**20:.1f} MiB at least"
        raise UserError(f"shared memory {SHARED_MEMORY}: {size}; {MORE_SHARED_MEMORY}")


def _init_worker(_: int) -> None:
    """Ignore signals, which the trainer handles, and use one thread: there are several workers."""
    leave_signals_to_parent(GRACE)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # not 1: with 1, OpenCV waits for its threads to end, and a forked worker has none
    keep_freed_memory()  # a worker that is not forked does not inherit it


@contextmanager
def shutdown_workers(loader: DataLoader) -> Iterator[None]:
    """End a loader's persistent workers at the end, whatever still refers to the loader, such as an error's traceback."""
    try:
        yield
    finally:
        iterator: Any = loader._iterator  # PyTorch has no other way
        if iterator is not None and loader.num_workers:
            iterator._shutdown_workers()
            loader._iterator = None
