"""An endless stream through workers: what is alike goes together, and what was made of it comes back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import torch

WORKERS = 2  # threads that take a batch all the way: while one of them assigns people, which is Python, the other's network is busy
WINDOW = 4  # batches' images among which those of one size are looked for
Item = TypeVar("Item")
Made = TypeVar("Made")
Batch = list[tuple[int, Item]]  # items with their numbers in the stream


def batch_by_key(items: Iterable[Item], key: Callable[[Item], Hashable], size: int, window: int) -> Iterator[Batch]:
    """Batches of `size` items of equal keys, as soon as there are so many, or fewer: none waits for more than `window` later ones."""
    waiting: dict[Hashable, Batch] = {}  # the one whose first item is the oldest first
    for number, item in enumerate(items):
        kind = key(item)
        batch = waiting.setdefault(kind, [])
        batch.append((number, item))
        if len(batch) == size:
            yield waiting.pop(kind)
        oldest = next(iter(waiting), None)
        if oldest is not None and number - waiting[oldest][0][0] >= window:
            yield waiting.pop(oldest)
    yield from waiting.values()


def sized_batches(items: Iterable[Item], key: Callable[[Item], Hashable], size: int) -> list[list[Item]]:
    """Return batches of up to `size` items of equal keys, where all keys are known beforehand: fewer batches than `batch_by_key` finds."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def ordered_map(batches: Iterable[Batch], work: Callable[[list[Item]], Sequence[Made]], pool: Executor, workers: int) -> Iterator[Made]:
    """What `work` makes of each item of a batch, in the items' order; the pool has a batch for each worker and one that waits."""
    running: deque[tuple[list[int], Future]] = deque()
    made: dict[int, Made] = {}
    following = 0
    upcoming = iter(batches)
    try:
        while True:
            batch = next(upcoming, None)
            if batch is not None:
                numbers, items = zip(*batch)
                running.append((numbers, pool.submit(work, list(items))))
            while running and (batch is None or len(running) > workers or running[0][1].done()):
                numbers, future = running.popleft()
                made.update(zip(numbers, future.result()))
                while following in made:
                    yield made.pop(following)
                    following += 1
            if batch is None:
                return
    finally:
        for _, future in running:
            future.cancel()


def predict_stream(
    decoder: Any, images: Iterable[tuple[np.ndarray, np.ndarray | None]], batch_size: int, device: torch.device
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the people of each image in order: `PoseEstimator.stream` for a `utils.systems.Decoder` whose network is still being trained.

    images: (H, W, 3) uint8 BGR, each with its boxes (B, 4 or 5), or None where the decoder needs none. device: the network's.
    """

    def predict(batch: list[tuple[np.ndarray, np.ndarray | None]]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        pixels, boxes = zip(*batch)
        return decoder(pixels, boxes if decoder.needs_boxes else None)

    workers = num_workers(device)
    batches = batch_by_key(images, lambda image: decoder.batch_key(image[0].shape[:2]), batch_size, WINDOW * batch_size)
    with worker_pool(workers, device) as pool:
        yield from ordered_map(batches, predict, pool, workers)


def num_workers(device: torch.device) -> int:
    """Return how many batches are worked on at a time."""
    return min(WORKERS, torch.get_num_threads()) if device.type == "cpu" else WORKERS


def worker_pool(workers: int, device: torch.device) -> ThreadPoolExecutor:
    """Return threads that share out PyTorch's threads among them; on a GPU each has a stream of its own."""
    threads, begun = torch.get_num_threads(), Barrier(workers + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread that has not asked yet would take over what the others are told later
        torch.set_num_threads(max(1, threads // workers))
        begun.wait()
        if device.type == "cuda":
            own = torch.cuda.Stream(device)
            own.wait_stream(torch.cuda.default_stream(device))
            torch.cuda.set_stream(own)

    pool = ThreadPoolExecutor(workers, "people", begin)
    for _ in range(workers):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(threads)  # a worker's number is also that of all threads that are begun after it
    return pool
