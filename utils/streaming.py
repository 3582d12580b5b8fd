"""An endless stream through workers: what is alike goes together, and what was made of it comes back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
Batch = list[tuple[int, Item]]  # items with their numbers in the stream


def batches_alike(items: Iterable[Item], key: Callable[[Item], Hashable], size: int, window: int) -> Iterator[Batch]:
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


def in_order(batches: Iterable[Batch], work: Callable[[list[Item]], Sequence[Made]], pool: Executor, workers: int) -> Iterator[Made]:
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
