"""Single steps of training and validation, without files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradients import Replicas
from people import CPU
from runs import ALONE, copied, random_batch, same, weighted
from torch import Tensor, nn

from config import UserError
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training.acceptance import Acceptance
from utils.training.averaging import build_averages
from utils.training.step import batch_on
from utils.training.trainer import train_one_epoch, validate

PLAIN = ("train.optimizer=sgd", "train.momentum=0", "train.weight_decay=0", "train.learning_rate=1")


class Meeting(nn.Module):
    """A step in which a process would wait for the others."""

    def __init__(self, step: nn.Module):
        super().__init__()
        self.module = step

    def forward(self, *inputs: Tensor) -> Tensor:
        raise AssertionError("waits for the other processes")


class Pictures:
    """Keeps the pictures that the curves would show."""

    def __init__(self):
        self.shown = []

    def pictures(self, step: int, name: str, pictures: list[np.ndarray]) -> None:
        self.shown += [(f"{name}/{number}", picture, step) for number, picture in enumerate(pictures)]


@pytest.mark.parametrize("limit", [None, 1e5])
def test_no_loss_is_accepted_that_is_not_finite(limit):
    for value, bad in [(-torch.inf, [0]), (torch.inf, [0]), (torch.nan, [0]), (1.0, [])]:
        assert Acceptance(torch.tensor([1.0, value]), limit, False, ALONE).known() == (bad, False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e4])
def test_a_batch_with_too_large_a_loss_is_dropped_and_leaves_no_trace(new_run, value):
    """Neither in the weights nor in the batch-norm statistics, where a NaN would stay for ever."""
    run, only_good = new_run("train.max_loss=1e5"), new_run("train.max_loss=1e5")
    good, bad = random_batch(run), weighted(random_batch(run, seed=1), value)
    loss = train_one_epoch(only_good, [good], 0)
    assert train_one_epoch(run, [bad, good, bad], 0) == loss
    assert same(copied(run), copied(only_good))


def test_without_a_limit_any_finite_loss_is_accepted(new_run):
    run = new_run("train.max_loss=null")
    assert train_one_epoch(run, [weighted(random_batch(run), 1e6)], 0) > 1e8
    with pytest.raises(UserError, match="every step's loss was not finite; lower train.learning_rate"):
        train_one_epoch(run, [weighted(random_batch(run), torch.nan)], 0)


def moved(run, before: list[torch.Tensor]) -> float:
    return torch.cat([(a - b).ravel() for a, b in zip(run.network.parameters(), before)]).norm().item()


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_are_clipped(new_run, scale):
    """With plain SGD the weights move by the rate times the gradient, whose norm is known then; however it was scaled before."""
    run = new_run(*PLAIN, "train.clip_norm=0.5", scale=scale)
    before = [parameter.detach().clone() for parameter in run.network.parameters()]
    train_one_epoch(run, [random_batch(run)], 0)
    assert moved(run, before) == pytest.approx(0.5, rel=1e-3)


def test_batches_whose_gradients_are_added_up_are_as_good_as_one(new_run):
    """With batch norms that keep their statistics, since each batch has its own otherwise."""
    whole, parts = new_run(*PLAIN, "train.learning_rate=1e-6"), new_run(*PLAIN, "train.learning_rate=1e-6", "train.accumulate=3")
    batch = random_batch(whole, size=6)
    for run, batches in ((whole, [batch]), (parts, [batch._make(tensor[n : n + 2] for tensor in batch) for n in (0, 2, 4)])):
        for module in run.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
                module.train = lambda mode=True, norm=module: norm
        run.loss = train_one_epoch(run, batches, 0)
    assert (whole.steps, parts.steps) == (1, 1)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(whole.network.parameters(), parts.network.parameters()))


def test_a_broken_batch_takes_those_along_that_it_is_added_to(new_run):
    run, only_good = new_run("train.accumulate=2"), new_run("train.accumulate=2")
    good = [random_batch(run, seed=seed) for seed in range(2)]
    bad = weighted(good[0], torch.nan)
    loss = train_one_epoch(only_good, good, 0)
    assert train_one_epoch(run, [good[1], bad, *good], 0) == loss
    assert same(copied(run), copied(only_good))


def test_a_compiled_step_is_the_same_step(new_run):
    """Without the code generator, which takes a minute."""
    plain, compiled = new_run("train.learning_rate=1e-6"), new_run("train.learning_rate=1e-6")
    torch._dynamo.reset()
    compiled.step.compile(backend="eager")
    for run in (plain, compiled):
        train_one_epoch(run, [random_batch(run)] * 2, 0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert same(copied(plain), copied(compiled))
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())


def test_scaling_alone_changes_nothing(new_run):
    plain, scaled = (new_run(*PLAIN, "train.learning_rate=1e-6", scale=scale) for scale in (None, 1024.0))
    for run in (plain, scaled):
        train_one_epoch(run, [random_batch(run)], 0)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(plain.network.parameters(), scaled.network.parameters()))


def test_a_step_that_the_scaler_skips_does_not_count_for_the_ema(new_run):
    run = new_run(*PLAIN, "train.learning_rate=1e-6", "train.ema_decay=0.5", scale=1e38)
    run.averages = build_averages(run.network, run.config.train)
    before = copied(run)
    train_one_epoch(run, [random_batch(run)], 0)
    assert run.averages["ema"].n_averaged == 0
    assert same(
        {name: run.network.state_dict()[name] for name, _ in run.network.named_parameters()},
        {name: before[name] for name, _ in run.network.named_parameters()},
    )
    run.scaler.update(1.0)
    train_one_epoch(run, [random_batch(run)], 0)
    assert run.averages["ema"].n_averaged == 1


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1), (4, 0.2), (9, 0.04)])
def test_each_epoch_has_the_rate_of_its_place_in_the_schedule(new_run, epoch, factor):
    run = new_run("train.learning_rate=1e-6", "train.decay=0.2", "train.milestones=[3, 9]", "train.epochs=12")
    train_one_epoch(run, [random_batch(run)] * 2, epoch)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-6 * factor)


def test_a_whole_training_goes_through_the_schedule(train):
    folder = train("run", "train.learning_rate=1e-3", "train.milestones=[1]", "train.decay=0.01")[0]
    (group,) = read_checkpoint(folder / "last.pth")["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(1e-5)


def test_the_rate_warms_up_within_an_epoch(new_run):
    run = new_run("train.learning_rate=1e-6", "train.warmup_epochs=1")
    seen = []
    run.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    train_one_epoch(run, [random_batch(run)] * 4, 0)
    assert seen == pytest.approx([0.25e-6, 0.5e-6, 0.75e-6, 1e-6])


# Validation


def test_validation_changes_nothing_and_uses_the_stored_statistics(new_run):
    run = new_run()
    batch = random_batch(run)
    train_one_epoch(run, [batch], 0)
    before = copied(run)
    loss = validate(run, [batch], 0)
    assert same(copied(run), before)
    run.network.eval()
    with torch.no_grad():
        images, targets = batch_on(CPU, batch, run.config)
        assert loss == pytest.approx(run.step.loss(run.network(images), *targets).item(), rel=1e-5)


def test_every_validation_sample_counts_the_same(new_run):
    """However they are shared out to batches."""
    run = new_run()
    whole = random_batch(run, size=5)
    parts = [whole._make(tensor[some] for tensor in whole) for some in (slice(0, 4), slice(4, 5))]
    assert validate(run, parts, 0) == pytest.approx(validate(run, [whole], 0), rel=1e-5)


def test_dataparallel_validates_on_all_its_devices(new_run):
    """No device sees more than its part of a batch, also of one that cannot be shared out evenly; the loss stays the same."""
    whole, spread = new_run(), new_run()
    spread.world, spread.step = DistributedContext("data_parallel", spread.world.device), Replicas(spread.step, 2)
    batch = random_batch(whole, size=5)
    seen = []
    spread.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert validate(spread, [batch], 0) == pytest.approx(validate(whole, [batch], 0), rel=1e-5)
    assert seen == [3, 2]


def test_processes_do_not_meet_in_a_validation_step(new_run):
    """They may have different numbers of batches: the one with more would wait for ever."""
    run = new_run()
    run.world, run.step = DistributedContext("distributed", run.world.device), Meeting(run.step)
    validate(run, [random_batch(run)], 0)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_pictures_are_of_the_first_batch_and_no_more_than_wanted(new_run, count):
    run = new_run(f"train.val_images={count}")
    run.curves, seen = Pictures(), []
    batches = [random_batch(run, size=4, seed=seed) for seed in range(2)]
    run.network.front.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    validate(run, batches, 6)
    assert [name for name, _, _ in run.curves.shown] == [f"validation/{n}" for n in range(count)]
    assert all(epoch == 7 for _, _, epoch in run.curves.shown)
    for n, (_, picture, _) in enumerate(run.curves.shown):
        assert picture.shape == (64, 5 * 64, 3)
        assert np.abs(picture[:, :64] - batches[0][0][n].numpy().astype(float)).max() <= 1
    assert sorted(len(images) for images in seen) == sorted([4, 4, *[count] * (count > 0)])


# Frozen parts


def test_frozen_parts_stay_as_they_are(new_run):
    """Their batch-norm statistics too."""
    run = new_run("train.freeze=[front.*, stages.0.hourglass.*]")
    before = copied(run)
    train_one_epoch(run, [random_batch(run)], 0)
    after = copied(run)
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in after if not name.startswith(("front.", "stages.0.hourglass."))}
    assert len(run.optimizer.param_groups[0]["params"]) == sum(p.requires_grad for p in run.network.parameters())


@pytest.mark.parametrize(("patterns", "said"), [("[trunk.*]", "no parameter is called 'trunk.*'"), ("['*']", "nothing is left to train")])
def test_freezing_what_is_not_there_or_everything(new_run, patterns, said):
    with pytest.raises(UserError, match="train.freeze: ") as error:
        new_run(f"train.freeze={patterns}")
    assert said in str(error.value)
