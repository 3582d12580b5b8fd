"""Streams through workers: items with equal keys share a batch, and results come in the items' order."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch

from utils.device import check_fork, limit_threads
from utils.predictions import PosePredictions

MAX_WORKERS = 2  # threads that each take a batch through all steps: one runs the network while the other assigns people in Python
LOOKAHEAD = 4  # batches' worth of images among which images of one size are grouped
Item = TypeVar("Item")
Result = TypeVar("Result")
Batch = list[tuple[int, Item]]  # items with their numbers in the stream


def batch_by_key(items: Iterable[Item], key: Callable[[Item], Hashable], size: int, lookahead: int) -> Iterator[Batch]:
    """Yield batches of up to `size` items of equal keys. A batch is complete at `size`, or `lookahead` items after its first one."""
    waiting: dict[Hashable, Batch] = {}  # in the order of the batches' first items
    for number, item in enumerate(items):
        item_key = key(item)
        batch = waiting.setdefault(item_key, [])
        batch.append((number, item))
        if len(batch) == size:
            yield waiting.pop(item_key)
        oldest = next(iter(waiting), None)
        if oldest is not None and number - waiting[oldest][0][0] >= lookahead:
            yield waiting.pop(oldest)
    yield from waiting.values()


def group_indices(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the indices of equal keys, a list for each key."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def sized_batches(items: Iterable[Item], key: Callable[[Item], Hashable], size: int) -> list[list[Item]]:
    """Return batches of up to `size` items of equal keys, as few as possible; `batch_by_key` does not know later items."""
    items = list(items)
    groups = group_indices(map(key, items))
    return [[items[index] for index in group[start : start + size]] for group in groups for start in range(0, len(group), size)]


def ordered_map(batches: Iterable[Batch], work: Callable[[list[Item]], Sequence[Result]], pool: Executor, workers: int) -> Iterator[Result]:
    """Yield `work`'s result for each item, in the items' order. The pool has one batch for each worker and one that waits."""
    running: deque[tuple[list[int], Future]] = deque()
    results: dict[int, Result] = {}
    following = 0
    try:
        for batch in chain(batches, [None]):  # None: the end
            if batch is not None:
                numbers, items = zip(*batch)
                running.append((numbers, pool.submit(work, list(items))))
            while running and (batch is None or len(running) > workers or running[0][1].done()):
                numbers, future = running.popleft()
                results.update(zip(numbers, future.result()))
                while following in results:
                    yield results.pop(following)
                    following += 1
    finally:
        for _, future in running:
            future.cancel()


def predict_stream(
    decoder: Any, images: Iterable[tuple[Item, np.ndarray, np.ndarray | None]], batch_size: int, device: torch.device
) -> Iterator[tuple[Item, PosePredictions]]:
    """Yield each image's key and people in order: `PoseEstimator.stream` for a decoder whose network is being trained.

    images: any key, (H, W, 3) uint8 BGR, and boxes (B, 4 or 5), which may be None where the decoder needs none. device: the network's.
    """

    def predict(batch: list[tuple[Item, np.ndarray, np.ndarray | None]]) -> list[tuple[Item, PosePredictions]]:
        keys, pixels, boxes = zip(*batch)
        return list(zip(keys, decoder(pixels, boxes)))

    workers = num_workers(device)
    batches = batch_by_key(images, lambda image: decoder.batch_key(image[1].shape[:2]), batch_size, LOOKAHEAD * batch_size)
    with worker_pool(workers, device) as pool:
        yield from ordered_map(batches, predict, pool, workers)


def num_workers(device: torch.device) -> int:
    """Return how many batches are processed at the same time."""
    of_cpu = min(MAX_WORKERS, torch.get_num_threads())
    return {"cpu": of_cpu, "mps": 1}.get(device.type, MAX_WORKERS)  # PyTorch's MPS is not safe in several threads


def worker_pool(workers: int, device: torch.device) -> ThreadPoolExecutor:
    """Return threads that divide PyTorch's threads among them; on a GPU each has its own stream. Raises UserError as `check_fork`."""
    check_fork(device)

    def begin() -> None:
        limit_threads(max(1, torch.get_num_threads() // workers))
        if device.type == "cuda":
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.default_stream(device))
            torch.cuda.set_stream(stream)

    return ThreadPoolExecutor(workers, "people", begin)
