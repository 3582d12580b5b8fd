"""The learning rate of every step, at the corners of the schedule, and the optimizers by name."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from places import ROOT
from torch import nn

from config import UserError, load_config
from utils.training.optimizer import build_optimizer, learning_rate

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
STEPS = 1000  # of an epoch
BASE = 2.5e-5


def rate(epoch: int, step: int = 0, processes: int = 1, overrides: tuple[str, ...] = ()) -> float:
    return learning_rate(epoch, step, STEPS, load_config(PUBLISHED, overrides).train, processes)


@pytest.mark.parametrize(
    ("epoch", "step", "expected"),
    [
        (0, 0, BASE / (3 * STEPS)),
        (0, STEPS - 1, BASE / 3),
        (1, STEPS // 2 - 1, BASE / 2),
        (2, STEPS - 2, BASE * (3 * STEPS - 1) / (3 * STEPS)),
        (2, STEPS - 1, BASE),  # end of the warm-up
        (3, 0, BASE),
        (14, STEPS - 1, BASE),
        (15, 0, BASE * 0.2),
        (29, STEPS - 1, BASE * 0.2),
        (30, 0, BASE * 0.2**2),
        (75, 0, BASE * 0.2**5),
        (77, STEPS - 1, BASE * 0.2**5),
        (78, 0, BASE * 0.2**5),
        (82, STEPS - 1, BASE * 0.2**5),
        (83, 0, BASE * 0.2**6),
        (88, 0, BASE * 0.2**7),
        (99, STEPS - 1, BASE * 0.2**9),
    ],
)
def test_the_published_schedule_at_its_corners(epoch, step, expected):
    assert rate(epoch, step) == pytest.approx(expected, rel=1e-12)


def test_the_rate_never_rises_after_the_warm_up():
    rates = [rate(epoch) for epoch in range(3, 100)]
    assert all(later <= earlier for earlier, later in zip(rates, rates[1:]))


@pytest.mark.parametrize("epoch", [0, 3, 15, 83])
def test_the_rate_grows_with_the_number_of_processes(epoch):
    assert rate(epoch, 5, processes=4) == pytest.approx(4 * rate(epoch, 5), rel=1e-12)


@pytest.mark.parametrize(("epoch", "overrides"), [(0, ()), (20, ()), (92, ("train.swa.start_epoch=90",))])
def test_or_it_does_not_where_that_is_not_wanted(epoch, overrides):
    alone = rate(epoch, 5, overrides=overrides)
    assert rate(epoch, 5, processes=4, overrides=(*overrides, "train.scale_rate_by_processes=false")) == alone


def test_milestones_take_the_place_of_the_published_falls():
    milestones = ("train.milestones=[20, 40]", "train.decay=0.1", "train.warmup_epochs=0")
    rates = [rate(epoch, STEPS // 2, overrides=milestones) for epoch in (0, 19, 20, 39, 40, 99)]
    assert rates == pytest.approx([BASE, BASE, BASE / 10, BASE / 10, BASE / 100, BASE / 100], rel=1e-12)
    assert rate(99, overrides=("train.milestones=[]",)) == BASE


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert rate(0, overrides=("train.warmup_epochs=0",)) == BASE


@pytest.mark.parametrize(("epoch", "step", "expected"), [(90, 0, 4e-5), (92, STEPS // 2, 3e-5), (95, 0, 4e-5), (97, STEPS // 2, 3e-5)])
def test_averaging_weights_gives_a_saw_tooth(epoch, step, expected):
    assert rate(epoch, step, overrides=("train.swa.start_epoch=90",)) == pytest.approx(expected, rel=1e-12)


def test_a_saw_tooth_ends_at_its_low_rate_and_the_epochs_before_it_are_as_ever():
    overrides = ("train.swa.start_epoch=90",)
    assert rate(94, STEPS - 1, overrides=overrides) == pytest.approx(2e-5, rel=1e-3)
    assert rate(94, STEPS - 1, overrides=overrides) > 2e-5
    assert rate(89, 7, overrides=overrides) == rate(89, 7)
    assert rate(90, 0, processes=2, overrides=overrides) == pytest.approx(8e-5, rel=1e-12)


def test_sgd_is_the_published_one():
    settings = load_config(PUBLISHED).train
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2))], settings, torch.device("cpu"))
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"], group["dampening"]) == (0.9, 5e-4, False, 0)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_comes_in_two_kinds(name, kind):
    settings = load_config(PUBLISHED, [f"train.optimizer={name}", "train.momentum=0.8"]).train
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2))], settings, torch.device("cpu"))
    assert type(optimizer) is kind
    assert (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["weight_decay"]) == ((0.8, 0.999), 5e-4)


@pytest.mark.parametrize("name", ["apex_sgd", "apex_adam"])
def test_apex_without_a_gpu_says_what_to_use_instead(name):
    settings = load_config(PUBLISHED, [f"train.optimizer={name}"]).train
    with pytest.raises(UserError, match=rf"{name}.*need a GPU; use sgd, adam or adamw"):
        build_optimizer([nn.Parameter(torch.zeros(2))], settings, torch.device("cpu"))


@pytest.mark.skipif(importlib.util.find_spec("apex") is not None, reason="NVIDIA Apex is installed")
def test_apex_that_is_not_installed_says_how_to_install_it():
    settings = load_config(PUBLISHED, ["train.optimizer=apex_sgd"]).train
    with pytest.raises(UserError, match=r"Apex is not installed.*pip install.*train\.optimizer=sgd"):
        build_optimizer([], settings, torch.device("cuda"))


@pytest.mark.parametrize(("name", "kind"), [("apex_sgd", "FusedSGD"), ("apex_adam", "FusedAdam")])
def test_apex_that_was_built_without_its_kernels_says_how_to_install_it(name, kind, monkeypatch):
    def built_without(parameters, **settings):
        raise RuntimeError(f"apex.optimizers.{kind} requires cuda extensions")

    monkeypatch.setitem(sys.modules, "apex.optimizers", SimpleNamespace(**{kind: built_without}))
    monkeypatch.setitem(sys.modules, "apex", SimpleNamespace())
    settings = load_config(PUBLISHED, [f"train.optimizer={name}"]).train
    with pytest.raises(UserError, match=rf"{kind} requires cuda extensions.*APEX_CUDA_EXT=1 pip install"):
        build_optimizer([], settings, torch.device("cuda"))
