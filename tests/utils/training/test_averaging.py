"""Averaging weights: which epochs count, the mean, and statistics that fit it."""

from __future__ import annotations

import torch
from runs import ALONE, parameters_of, same, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config.schema import SwaConfig
from utils.training.averaging import ExponentialAverage, cycle_ends, refresh_statistics


def test_each_cycle_ends_at_its_last_epoch():
    def ends(**settings: int | None) -> list[int]:
        return [epoch for epoch in range(12) if cycle_ends(epoch, SwaConfig(**settings))]

    assert ends(start_epoch=3, cycle=2) == [4, 6, 8, 10]
    assert ends(start_epoch=0, cycle=5) == [4, 9]
    assert ends(start_epoch=2, cycle=1) == list(range(2, 12))
    assert ends(start_epoch=None) == []


def test_statistics_are_those_of_all_batches():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    network[2].eval()
    nn.init.constant_(network[1].running_mean, 9)
    nn.init.constant_(network[2].running_mean, 9)
    batches = [torch.rand(2, 3, 5, 5) * scale for scale in (1, 2, 3)]
    refresh_statistics(network, batches, ALONE)
    with torch.no_grad():
        expected = torch.stack([network[0](batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(network[1].running_mean, expected, atol=1e-6)
    assert (network[2].running_mean == 9).all()  # a frozen one


def test_the_exponential_average_is_pytorchs():
    """To the last bit, but for the number of batches that a batch norm has seen, which PyTorch's rounds down at each step."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    own, pytorchs = ExponentialAverage(network, 0.25), AveragedModel(network, use_buffers=True)
    for decay in (0.0, 2 / 11, 3 / 12, 0.25, 0.25):
        network(torch.rand(2, 3, 5, 5))
        with torch.no_grad():
            network[0].weight += torch.rand_like(network[0].weight)
        own.update_parameters(network)
        pytorchs.multi_avg_fn = get_ema_multi_avg_fn(decay)
        pytorchs.update_parameters(network)
    state, other = own.state_dict(), pytorchs.state_dict()
    assert state.pop("module.1.num_batches_tracked") == 5
    del other["module.1.num_batches_tracked"]
    assert same(state, other)
    assert own.n_averaged.device.type == "cpu" and not torch.equal(state["module.0.weight"], network[0].weight)


def test_a_short_trainings_exponential_average_has_forgotten_its_start():
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = ExponentialAverage(network, 0.9999)
    for _ in range(200):
        nn.init.constant_(network[1].running_var, 0.01)  # of a fresh network: 1
        average.update_parameters(network)
    nn.init.constant_(network[1].running_var, 1)
    start = ExponentialAverage(network, 0.9999)
    start.update_parameters(network)
    for _ in range(200):
        nn.init.constant_(network[1].running_var, 0.01)
        start.update_parameters(network)
    assert torch.allclose(start.module[1].running_var, average.module[1].running_var, atol=1e-6)


def test_averaged_weights(train):
    """Two cycles of two epochs; an interrupt between them changes nothing."""
    swa = ("train.swa.start_epoch=1", "train.swa.cycle=2", "train.swa.high=1e-3", "train.swa.low=1e-3")
    three, four, five = (train(f"{epochs} epochs", *swa, f"train.epochs={epochs}")[0] for epochs in (3, 4, 5))
    average = weights(five, "averaged.pth")
    first, second = weights(three), weights(five)
    assert all(torch.allclose(average[name], (first[name] + second[name]) / 2, atol=1e-6) for name in parameters_of(average))
    of_one = weights(four, "averaged.pth")
    assert all(torch.allclose(of_one[name], first[name]) for name in parameters_of(of_one))
    statistics = "stages.0.features.0.conv2.bn.running_var"  # taken anew: neither the last weights' nor the mean of both
    assert not torch.allclose(average[statistics], second[statistics], rtol=1e-3)
    assert not torch.allclose(average[statistics], (first[statistics] + second[statistics]) / 2, rtol=1e-3)
    resumed = train("resumed", *swa, "train.epochs=5", "--resume", four / "last.pth")[0]
    assert same(weights(resumed, "averaged.pth"), average)
    (resumed / "averaged.pth").unlink()  # as where the end came while it was made
    train("resumed", *swa, "train.epochs=5", "--resume", "auto")
    assert same(weights(resumed, "averaged.pth"), average)


def test_frozen_parts_are_their_own_average(train, trained):
    """To the last number, with statistics that are no longer those of a fresh network; what learns has new ones."""
    options = ("train.freeze=[front.*]", "train.swa.start_epoch=0", "train.swa.cycle=1", "train.swa.high=1e-3", "train.swa.low=1e-3")
    average = weights(train("run", "--init", trained / "best.pth", *options)[0], "averaged.pth")
    start = weights(trained, "best.pth")
    unlike = {name.partition(".")[0] for name in average if not torch.equal(average[name], start[name])}
    assert unlike == {"stages"}
