"""The learning rate at the corners of the schedule, the optimizers by name, frozen parameters, and averages of the weights."""

import sys

import pytest
import torch
from places import ROOT
from runs import ALONE, same
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config import UserError, load_config
from config.schema import SwaConfig
from utils.training.optimizer import EMA, build_optimizer, cycle_ends, freeze, learning_rate, update_bn

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
STEPS = 1000  # of an epoch
BASE = 2.5e-5


def rate(epoch: int, step: int = 0, ranks: int = 1, overrides: tuple[str, ...] = ()) -> float:
    return learning_rate(epoch, step, STEPS, load_config(PUBLISHED, overrides).train, ranks)


WARM = 3 * STEPS
MILESTONES = ("train.milestones=[20, 40]", "train.decay=0.1", "train.warmup_epochs=0")
SWA = ("train.swa.start_epoch=90",)


@pytest.mark.parametrize(
    ("overrides", "factors"),
    [
        ((), {(0, 0): 1 / WARM, (2, STEPS - 2): (WARM - 1) / WARM, (2, STEPS - 1): 1, (14, STEPS - 1): 1, (15, 0): 0.2}),
        ((), {(82, STEPS - 1): 0.2**5, (83, 0): 0.2**6, (99, STEPS - 1): 0.2**9}),
        (MILESTONES, {(0, 0): 1, (19, 500): 1, (20, 0): 0.1, (39, 500): 0.1, (40, 0): 0.01, (99, 500): 0.01}),
        (("train.milestones=[]",), {(99, 0): 1}),
        (SWA, {(89, 7): 0.2**7, (90, 0): 1.6, (92, 500): 1.2, (95, 0): 1.6, (97, 500): 1.2, (94, STEPS - 1): 0.8 * 1.0002}),
    ],
)
def test_the_schedule_at_its_corners(overrides, factors):
    """As published, with milestones, and SWA's saw-tooth."""
    assert [rate(*at, overrides=overrides) / BASE for at in factors] == pytest.approx(list(factors.values()), rel=1e-9)


@pytest.mark.parametrize(("epoch", "overrides"), [(0, ()), (20, ()), (92, SWA)])
def test_the_rate_grows_with_the_number_of_ranks_where_that_is_configured(epoch, overrides):
    alone = rate(epoch, 5, overrides=overrides)
    assert rate(epoch, 5, ranks=4, overrides=overrides) == pytest.approx(4 * alone, rel=1e-12)
    assert rate(epoch, 5, ranks=4, overrides=(*overrides, "train.scale_rate_by_processes=false")) == alone


@pytest.mark.parametrize(
    ("name", "expected"),
    [("SGD", {"momentum": 0.8, "nesterov": False}), ("Adam", {"betas": (0.8, 0.999)}), ("AdamW", {"betas": (0.8, 0.999)})],
)
def test_optimizers_take_the_configured_settings(name, expected):
    settings = load_config(PUBLISHED, [f"train.optimizer={name.lower()}", "train.momentum=0.8"]).train
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2))], settings, torch.device("cpu"))
    assert type(optimizer) is getattr(torch.optim, name)
    assert optimizer.param_groups[0].items() >= {"lr": BASE, "weight_decay": 5e-4, **expected}.items()


def test_apex_without_a_gpu_or_without_apex_is_refused_with_a_remedy(monkeypatch):
    settings = load_config(PUBLISHED, ["train.optimizer=apex_sgd"]).train
    with pytest.raises(UserError, match=r"apex_sgd.*need a GPU; use sgd, adam or adamw"):
        build_optimizer([], settings, torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", None)
    with pytest.raises(UserError, match=r"Apex is not installed.*APEX_CUDA_EXT=1 pip install.*train\.optimizer=sgd"):
        build_optimizer([], settings, torch.device("cuda"))


# Frozen parameters and averages


@pytest.mark.parametrize(("pattern", "message"), [("trunk.*", "no parameter matches 'trunk.\\*'"), ("*", "no trainable parameters remain")])
def test_freezing_nothing_or_everything_is_refused(pattern, message):
    with pytest.raises(UserError, match=f"train.freeze: {message}"):
        freeze(nn.Conv2d(3, 4, 1), [pattern])


def test_each_cycle_ends_at_its_last_epoch():
    def ends(**settings: int | None) -> list[int]:
        return [epoch for epoch in range(12) if cycle_ends(epoch, SwaConfig(**settings))]

    assert ends(start_epoch=3, cycle=2) == [4, 6, 8, 10]
    assert ends(start_epoch=2, cycle=1) == list(range(2, 12))
    assert ends(start_epoch=None) == []


def test_update_bn_takes_the_mean_over_all_batches():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    network[2].eval()
    for norm in network[1:]:
        nn.init.constant_(norm.running_mean, 9)
    batches = [torch.rand(2, 3, 5, 5) * scale for scale in (1, 2, 3)]
    update_bn(network, batches, ALONE)
    with torch.no_grad():
        expected = torch.stack([network[0](batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(network[1].running_mean, expected, atol=1e-6)
    assert network[1].momentum == 0.1
    assert (network[2].running_mean == 9).all()  # a frozen one


def test_the_ema_is_pytorchs_with_a_shorter_memory_at_first():
    """To the last bit, except the number of batches that a batch norm has seen, which PyTorch's rounds down at each step."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    own, pytorchs = EMA(network, 0.25), AveragedModel(network, use_buffers=True)
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
