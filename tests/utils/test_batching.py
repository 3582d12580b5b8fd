"""Streams through workers: what goes together, what waits for what, and the order at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

from utils.batching import batch_by_key, ordered_map, predict_stream, sized_batches


def numbered(size: int, window: int, kinds: str) -> list[list[tuple[int, str]]]:
    return list(batch_by_key(kinds, str.lower, size, window))


def test_items_of_a_kind_go_together():
    assert numbered(2, 8, "abAB") == [[(0, "a"), (2, "A")], [(1, "b"), (3, "B")]]
    assert numbered(3, 8, "aab") == [[(0, "a"), (1, "a")], [(2, "b")]]
    assert numbered(1, 8, "ab") == [[(0, "a")], [(1, "b")]]
    assert numbered(4, 8, "") == []


def test_nothing_waits_for_more_than_the_window():
    batches = numbered(4, 3, "xaaaaaaaa")
    assert batches == [[(0, "x")], [(n, "a") for n in (1, 2, 3, 4)], [(n, "a") for n in (5, 6, 7, 8)]]
    taken = 0

    def items() -> Iterator[str]:
        nonlocal taken
        for kind in random.Random(0).choices("abcdefgh", k=500):
            taken += 1
            yield kind

    given = 0
    for batch in batch_by_key(items(), str, 4, 10):
        given += len(batch)
        assert taken - given <= 10
        assert taken - 1 - batch[0][0] <= 10
    assert given == 500


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_items_order(workers):
    def work(items: list[int]) -> list[int]:
        time.sleep(random.Random(items[0]).random() / 500)
        return [item * 10 for item in items]

    with ThreadPoolExecutor(workers) as pool:
        batches = batch_by_key(range(200), lambda item: item % 3, 4, 16)
        assert list(ordered_map(batches, work, pool, workers)) == [item * 10 for item in range(200)]
        assert list(ordered_map([], work, pool, workers)) == []


def test_no_more_is_read_than_the_workers_need():
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(batch_by_key(items(), lambda item: 0, 3, 12), lambda items: items, pool, 2)
        for number in range(1, 50):
            assert next(results) == number
            assert taken - number <= 3 * (2 + 2)
        results.close()


def test_workers_work_side_by_side():
    """Two batches wait for each other: one after the other they would wait for ever."""
    begun = {0: Event(), 1: Event()}

    def work(items: list[int]) -> list[bool]:
        begun[items[0]].set()
        return [begun[1 - items[0]].wait(10)]

    with ThreadPoolExecutor(2) as pool:
        assert list(ordered_map([[(0, 0)], [(1, 1)]], work, pool, 2)) == [True, True]


def test_what_a_worker_raises_arrives():
    def work(items: list[int]) -> list[int]:
        if 5 in items:
            raise ValueError("five")
        return items

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(batch_by_key(range(9), lambda item: 0, 1, 4), work, pool, 2)
        with pytest.raises(ValueError, match="five"):
            list(results)


# A decoder's stream


class Brightness:
    """A decoder whose only person of an image is its mean value; it records the batches' sizes."""

    needs_boxes = False

    def __init__(self):
        self.batches = []

    def batch_key(self, image_size):
        return image_size

    def __call__(self, images, boxes):
        assert boxes is None and len({image.shape for image in images}) == 1
        self.batches.append(len(images))
        return [(np.full((1, 1, 3), image.mean()), np.ones(1)) for image in images]


def test_a_stream_groups_images_by_size_and_keeps_their_order():
    sides = random.Random(1).choices([4, 5, 6], k=30)
    images = [np.full((side, side, 3), number, np.uint8) for number, side in enumerate(sides)]
    decoder = Brightness()
    found = predict_stream(decoder, ((image, None) for image in images), 4, torch.device("cpu"))
    assert [keypoints.mean() for keypoints, _ in found] == list(range(30))
    assert sum(decoder.batches) == 30 and len(decoder.batches) <= 12


def test_batches_of_known_sizes_are_as_few_as_can_be():
    batches = sized_batches([1, 10, 2, 3, 11, 4, 5, 12], lambda number: number >= 10, 2)
    assert batches == [[1, 2], [3, 4], [5], [10, 11], [12]]
