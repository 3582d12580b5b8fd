"""Training runs for the tests of training: what they leave behind, and single steps without a command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from config import load_config
from data.datasets import MixedDataset
from data.datasets.simplepose import SimplePoseSample
from losses import build_loss
from models import build_model
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training import trainer
from utils.training.frozen import freeze
from utils.training.optimizer import build_optimizer
from utils.training.state import Run
from utils.training.step import TrainingStep

ALONE = DistributedContext("none", torch.device("cpu"))


def weights(folder: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name)["weights"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def parameters_of(state: dict[str, torch.Tensor]) -> list[str]:
    """The names that are not batch-norm statistics."""
    return [name for name in state if "running" not in name and "tracked" not in name]


def losses(said: str) -> list[float]:
    return [float(line.split("training loss ")[1].split(",")[0]) for line in said.splitlines() if "training loss" in line]


def points(folder: Path) -> list[dict]:
    """The points of a run's curves, but for what is measured."""
    lines = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(("speed/", "memory/"))} for line in lines]


def fresh_run(
    recipe: Path, folder: Path, overrides: tuple[str, ...] = (), world: DistributedContext = ALONE, scale: float | None = None
) -> Run:
    """A run with freshly drawn weights. scale: of a gradient scaler such as float16 has; None: none."""
    config = load_config(recipe, overrides)
    torch.manual_seed(0)
    network = build_model(config)
    freeze(network, config.train.freeze)
    step = world.wrap(TrainingStep(network, build_loss(config), config.train.precision), config.train)
    optimizer = build_optimizer([p for p in network.parameters() if p.requires_grad], config.train, world.device)
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
    return Run(config, folder, world, network, step, optimizer, scaler, logging.getLogger("test"), None)


def random_batch(run: Run, size: int = 2, seed: int = 0) -> SimplePoseSample:
    """Return a batch as the loader gives it: images (size, 64, 64, 3), keypoints of three people anywhere in them, masks."""
    g, config = torch.Generator().manual_seed(seed), run.config
    images, mask_all = (torch.randint(256, (size, *shape), generator=g, dtype=torch.uint8) for shape in ((64, 64, 3), (16, 16)))
    points = 64 * torch.rand(size, 3, config.skeleton.num_keypoints, 2, generator=g)
    labeled, channel_mask = (torch.ones(shape, dtype=torch.bool) for shape in (points.shape[:-1], (size, config.channels.count)))
    return SimplePoseSample(images, points, labeled, torch.full_like(mask_all, 255), mask_all, channel_mask)


def weighted(batch: SimplePoseSample, factor: float) -> SimplePoseSample:
    """Return a batch whose loss counts so many times as much."""
    return batch._replace(mask_miss=batch.mask_miss * factor)


def copied(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.network.state_dict().items() if tensor.is_floating_point()}


STEADY = ("train.epochs=4", "train.batch_size=1", "train.checkpoint_every=1", "train.log_every=3", "train.ema_decay=0.9")
EQUAL = ("train.epochs=2", "train.batch_size=1", "train.precision=float64", "train.optimizer=sgd", "train.learning_rate=1e-6")
EQUAL += ("train.scale_rate_by_processes=false", "train.freeze=['*.bn.*']")


class Killed(BaseException):
    """Nobody catches it."""


def stopped_after(steps: int, work: Callable[[], None]) -> None:
    """Train, and be killed just after the checkpoint of this step."""
    keep = trainer.keep

    def keep_and_die(run: Run, content: dict) -> None:
        keep(run, content)
        if run.steps == steps:
            raise Killed

    trainer.keep = keep_and_die
    try:
        work()
    except Killed:
        return
    finally:
        trainer.keep = keep
    raise AssertionError(f"came to its end before step {steps}")


@contextmanager
def samples_taken() -> Iterator[list[int]]:
    """Within, the numbers of the training samples that are read by this process."""
    taken, sample = [], MixedDataset.__getitem__

    def noted(self: MixedDataset, item: tuple[int, int]) -> tuple:
        if self.augment:
            taken.append(item[1])
        return sample(self, item)

    MixedDataset.__getitem__ = noted
    try:
        yield taken
    finally:
        MixedDataset.__getitem__ = sample


@contextmanager
def losing_batch(here: bool) -> Iterator[None]:
    """Within, every training image is infinitely bright, if it is `here`."""
    batch_on = trainer.batch_on

    def blinding(*arguments: object) -> tuple[Tensor, NamedTuple]:
        images, targets = batch_on(*arguments)
        return images * torch.inf if here else images, targets

    trainer.batch_on = blinding
    try:
        yield
    finally:
        trainer.batch_on = batch_on
