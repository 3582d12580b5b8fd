"""Streams through workers: which items share a batch, and the order of the results. test_inference.py has how far ahead is read."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch

from utils.batching import batch_by_key, ordered_map, predict_stream, sized_batches, worker_pool


def test_items_with_equal_keys_share_a_batch_of_the_asked_size():
    for size, lookahead, items, expected in (
        (2, 8, "abAB", [[(0, "a"), (2, "A")], [(1, "b"), (3, "B")]]),
        (3, 8, "aab", [[(0, "a"), (1, "a")], [(2, "b")]]),
        (4, 8, "", []),
        (4, 3, "xaaaaaaaa", [[(0, "x")], [(n, "a") for n in (1, 2, 3, 4)], [(n, "a") for n in (5, 6, 7, 8)]]),
    ):
        assert list(batch_by_key(items, str.lower, size, lookahead)) == expected
    assert sized_batches([1, 10, 2, 3, 11, 4, 5, 12], lambda number: number >= 10, 2) == [[1, 2], [3, 4], [5], [10, 11], [12]]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_items_order(workers):
    def work(items: list[int]) -> list[int]:
        time.sleep(random.Random(items[0]).random() / 500)
        return [item * 10 for item in items]

    with ThreadPoolExecutor(workers) as pool:
        batches = batch_by_key(range(100), lambda item: item % 3, 4, 16)
        assert list(ordered_map(batches, work, pool, workers)) == [item * 10 for item in range(100)]
        assert list(ordered_map([], work, pool, workers)) == []


def test_workers_run_at_the_same_time_and_their_errors_are_raised():
    """Each of two batches waits for the other to begin."""
    begun = {0: Event(), 1: Event()}

    def work(items: list[int]) -> list[bool]:
        begun[items[0]].set()
        return [begun[1 - items[0]].wait(10)]

    with ThreadPoolExecutor(2) as pool:
        assert list(ordered_map([[(0, 0)], [(1, 1)]], work, pool, 2)) == [True, True]
        with pytest.raises(ZeroDivisionError):
            list(ordered_map(batch_by_key(range(9), lambda item: 0, 1, 4), lambda items: [1 / (5 - items[0])], pool, 2))


def test_workers_share_the_threads_and_leave_others_theirs():
    torch.set_num_threads(4)
    try:
        with worker_pool(2, torch.device("cpu")) as pool, ThreadPoolExecutor(1) as others:
            assert pool.submit(torch.get_num_threads).result() == 2
            assert torch.get_num_threads() == 4
            assert others.submit(torch.get_num_threads).result() == 4  # the number of threads that begin later
    finally:
        torch.set_num_threads(1)


def test_a_decoders_stream_groups_images_by_size_and_keeps_their_order():
    class Brightness:
        """A decoder that predicts an image's mean value as its only person, and records the batches' sizes."""

        batches: list[int] = []

        def batch_key(self, image_size):
            return image_size

        def __call__(self, images, boxes):
            assert len({image.shape for image in images}) == 1
            self.batches.append(len(images))
            return [(np.full((1, 1, 3), image.mean()), np.ones(1)) for image in images]

    sides = random.Random(1).choices([4, 5, 6], k=30)
    images = ((number, np.full((side, side, 3), number, np.uint8), None) for number, side in enumerate(sides))
    predictions = predict_stream(Brightness(), images, 4, torch.device("cpu"))
    assert [(number, keypoints.mean()) for number, (keypoints, _) in predictions] == [(number, number) for number in range(30)]
    assert sum(Brightness.batches) == 30 and len(Brightness.batches) <= 12
