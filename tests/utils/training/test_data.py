"""Which samples an epoch takes, in which order, and how processes share them."""

import os
import signal
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from runs import ALONE, in_a_child
from torch.utils.data import Dataset

from config import load_config
from utils.distributed import DistributedContext
from utils.training import data
from utils.training.data import EpochBatchSampler, build_loader, build_loaders, epoch_order


def test_batches_take_every_sample_once_and_differ_by_epoch():
    contexts = [DistributedContext("distributed", torch.device("cpu"), rank, 2) for rank in range(2)]
    samplers = [EpochBatchSampler([10, 7], None, 2, context, seed=0) for context in contexts]
    read = [sum(sampler, []) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [4, 4]
    assert len(set(sum(read, []))) == 16
    assert {epoch for epoch, _ in sum(read, [])} == {0}
    for sampler in samplers:
        sampler.set_epoch(1)
    later = [sum(sampler, []) for sampler in samplers]
    assert {epoch for epoch, _ in sum(later, [])} == {1}
    assert [[number for _, number in each] for each in later] != [[number for _, number in each] for each in read]
    assert [len(batch) for batch in EpochBatchSampler([3], None, 8, ALONE, 0)] == [8]  # fewer samples than a batch holds


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_epoch_has_the_samples_that_are_left(ranks):
    """On another number of ranks too; a step's batches are accumulated."""
    whole = sum(EpochBatchSampler([40], None, 2, ALONE, seed=3, accumulate=2), [])
    contexts = [DistributedContext("distributed", torch.device("cpu"), rank, ranks) for rank in range(ranks)]
    samplers = [EpochBatchSampler([40], None, 2, context, seed=3, accumulate=2) for context in contexts]
    for sampler in samplers:
        sampler.set_epoch(0, 16)
    assert [len(sampler) for sampler in samplers] == [12 // ranks] * ranks
    assert sorted(sum((sum(sampler, []) for sampler in samplers), [])) == sorted(whole[16:])
    samplers[0].set_epoch(0, 40)
    assert list(samplers[0]) == []


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.01, 1], [1, 0.001]])
def test_weights_are_fractions_of_the_epoch(weights):
    """Of a small file every sample comes as often, by numbers that stand for other augmentations."""
    order = epoch_order(np.random.default_rng(0), [90, 10], weights)
    assert len(order) == 100
    small, large = order[order % 100 >= 90], order[order % 100 < 90]
    assert len(large) == round(100 * weights[0] / sum(weights))
    assert len(set(order.tolist())) == 100
    if weights == [1, 1]:
        assert 20 < (order[:50] % 100 >= 90).sum() < 30, "the files are mixed"
        assert np.bincount(small % 100 - 90).tolist() == [5] * 10
        assert sorted(set((small // 100).tolist())) == [0, 1, 2, 3, 4]
        assert (large < 100).all()


# Slow disks


def test_blocks_are_read_together_and_mixed():
    """Each sample once; of any 64 blocks' worth of an epoch no sample is of another block; and there is no order left in it."""
    order = epoch_order(np.random.default_rng(0), [2000, 1000], None, block=10)
    assert sorted(order.tolist()) == list(range(3000))
    pools = [order[start : start + 640] for start in range(0, 2560, 640)]
    assert all(len(set((pool // 10).tolist())) == 64 for pool in pools)
    assert all(abs(np.corrcoef(pool, np.arange(len(pool)))[0, 1]) < 0.15 and np.ptp(pool) > 2000 for pool in pools)
    assert (np.abs(np.diff(order)) == 1).mean() < 0.02
    assert not np.array_equal(order, epoch_order(np.random.default_rng(1), [2000, 1000], None, block=10))


def test_blocks_keep_the_shares_of_files_all_through_an_epoch():
    order = epoch_order(np.random.default_rng(0), [9000, 1000], [1, 1], block=10)
    small = order % 10000 >= 9000
    assert np.bincount(order[small] % 10000 - 9000).tolist() == [5] * 1000
    assert all(0.45 < some.mean() < 0.55 for some in np.array_split(small, 20))


def test_the_configured_block_is_taken(tiny):
    configs = [load_config(tiny, (f"data.shuffle_block={block}", "train.batch_size=1")) for block in (2, "null")]
    blocks, plain = ([number for ((_, number),) in build_loaders(config, ALONE)[0].batch_sampler] for config in configs)
    assert sorted(blocks) == sorted(plain) and blocks != plain


# Workers


class Row(NamedTuple):
    row: torch.Tensor  # epoch, number, process
    per_person = ()


class WorkerIds(Dataset):
    """Each sample is its own item and the process that reads it."""

    def __getitem__(self, item: tuple[int, int]) -> Row:
        return Row(torch.tensor([*item, os.getpid()]))


@pytest.mark.parametrize("persistent", [True, False])
def test_persistent_workers_read_the_next_epoch_too(tiny, persistent):
    sampler, epochs = EpochBatchSampler([8], None, 2, ALONE, seed=0), []
    loader = build_loader(WorkerIds(), sampler, load_config(tiny, ("data.workers=2",)), ALONE, persistent)
    for epoch in (4, 5):
        sampler.set_epoch(epoch)
        rows = torch.cat([rows for (rows,) in loader])
        assert set(rows[:, 0].tolist()) == {epoch} and sorted(rows[:, 1].tolist()) == list(range(8))
        epochs.append(set(rows[:, 2].tolist()))
    assert len(epochs[0]) == len(epochs[1]) == 2 and (epochs[0] == epochs[1]) == persistent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked on Linux only")
def test_a_forked_worker_does_not_wait_for_the_trainers_opencv_threads():
    image, shift = np.zeros((900, 900, 3), np.uint8), np.float32([[1, 0, 3], [0, 1, 5]])

    def worker() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        data._init_worker(0)
        cv2.warpAffine(image, shift, (900, 900))

    def trainer() -> None:
        cv2.setNumThreads(4)
        cv2.warpAffine(image, shift, (900, 900))  # starts the threads
        assert os.waitpid(in_a_child(worker), 0)[1] == 0

    assert os.waitpid(in_a_child(trainer), 0)[1] == 0
