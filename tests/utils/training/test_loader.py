"""Which samples an epoch takes, in which order, and how processes share them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import ALONE

from utils.distributed import World
from utils.training import loader
from utils.training.loader import EpochBatches, epoch_order


def test_batches_take_every_sample_once_and_differ_by_epoch():
    worlds = [World("distributed", torch.device("cpu"), rank, 2) for rank in range(2)]
    batches = [EpochBatches([10, 7], None, 2, world, seed=0) for world in worlds]
    taken = [sum(each, []) for each in batches]
    assert [len(each) for each in batches] == [4, 4]
    assert len(set(sum(taken, []))) == 16
    assert {epoch for epoch, _ in sum(taken, [])} == {0}
    for each in batches:
        each.epoch = 1
    later = [sum(each, []) for each in batches]
    assert {epoch for epoch, _ in sum(later, [])} == {1}
    assert [[number for _, number in each] for each in later] != [[number for _, number in each] for each in taken]
    assert [len(batch) for batch in EpochBatches([3], None, 8, ALONE, 0)] == [8]  # fewer samples than a batch holds


def test_without_weights_every_sample_comes_once():
    assert sorted(epoch_order(np.random.default_rng(0), [5, 3], None).tolist()) == list(range(8))


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.01, 1], [1, 0.001]])
def test_weights_are_shares_of_the_epoch(weights):
    order = epoch_order(np.random.default_rng(0), [90, 10], weights)
    assert len(order) == 100
    of_first = (order % 100 < 90).sum()
    assert of_first == round(100 * weights[0] / sum(weights))
    assert len(set(order.tolist())) == 100  # a further draw of a sample has a number of its own


def test_a_small_file_is_repeated_evenly():
    """Fifty of ten samples: each five times, by numbers that stand for other draws."""
    order = epoch_order(np.random.default_rng(0), [90, 10], [1, 1])
    small = order[order % 100 >= 90]
    assert np.bincount(small % 100 - 90).tolist() == [5] * 10
    assert sorted(set((small // 100).tolist())) == [0, 1, 2, 3, 4]
    large = order[order % 100 < 90]
    assert (large < 100).all() and len(set(large.tolist())) == 50


def test_the_files_are_mixed():
    order = epoch_order(np.random.default_rng(0), [500, 500], [1, 1])
    assert 200 < (order[:500] < 500).sum() < 300


def test_loader_processes_say_nothing_about_a_trainer_that_is_gone(capsys):
    """All but that is told."""
    for error in (EOFError(), ConnectionResetError(), BrokenPipeError()):
        loader._silent_about_the_trainer(type(error), error, None)
    assert capsys.readouterr().err == ""
    loader._silent_about_the_trainer(ValueError, ValueError("a real fault"), None)
    assert "a real fault" in capsys.readouterr().err
