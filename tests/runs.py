"""Helpers for tests of training: reading a run's files, single steps, kills, and ranks in processes of their own."""

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from config import load_config
from data.datasets import MixedDataset
from data.datasets.simplepose import SimplePoseSample
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext, distributed_context
from utils.training.build import build_state
from utils.training.state import TrainState

ALONE = DistributedContext("none", torch.device("cpu"))
OFTEN = ("train.epochs=2", "train.checkpoint_every=3", "train.log_every=1", "train.ema_decay=0.9")
OFTEN += ("train.swa.start_epoch=0", "train.swa.cycle=1", "train.swa.high=1e-3", "train.swa.low=5e-4")


def weights(folder: Path, name: str = "last.pth") -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / name)["weights"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def parameters_of(state: dict[str, torch.Tensor]) -> list[str]:
    """The names that are not batch-norm statistics."""
    return [name for name in state if "running" not in name and "tracked" not in name]


def losses(log: str) -> list[float]:
    return [float(line.split("training loss ")[1].split(",")[0]) for line in log.splitlines() if "training loss" in line]


def points(folder: Path) -> list[dict]:
    """Return a run's logged metrics, except times and memory."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(("speed/", "memory/", "data/"))} for line in lines]


def fresh_state(
    recipe: Path, folder: Path, overrides: tuple[str, ...] = (), context: DistributedContext = ALONE, scale: float | None = None
) -> TrainState:
    """Return a run with initial weights. scale: of a gradient scaler, as for float16; None: no scaler."""
    state = build_state(load_config(recipe, overrides), folder, context)[0]
    if scale is not None:
        state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return state


def random_batch(state: TrainState, size: int = 2, seed: int = 0) -> SimplePoseSample:
    """Return a batch as the loader gives it: images (size, 64, 64, 3), keypoints of three people anywhere in them, masks."""
    g, config = torch.Generator().manual_seed(seed), state.config
    images, mask_all = (torch.randint(256, (size, *shape), generator=g, dtype=torch.uint8) for shape in ((64, 64, 3), (16, 16)))
    points = 64 * torch.rand(size, 3, config.skeleton.num_keypoints, 2, generator=g)
    labeled, channel_mask = (torch.ones(shape, dtype=torch.bool) for shape in (points.shape[:-1], (size, config.channels.count)))
    return SimplePoseSample(images, points, labeled, torch.full_like(mask_all, 255), mask_all, channel_mask)


def part_of(batch: SimplePoseSample, rows: slice) -> SimplePoseSample:
    return batch._make(tensor[rows] for tensor in batch)


def weighted(batch: SimplePoseSample, factor: float) -> SimplePoseSample:
    """Return a batch whose loss is multiplied by `factor`."""
    return batch._replace(mask_miss=batch.mask_miss * factor)


def copied(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.network.state_dict().items() if tensor.is_floating_point()}


def fix_norms(network: nn.Module) -> None:
    """Have batch norms use their stored statistics in training too."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, norm=module: norm


class Replicas(nn.Module):
    """Imitates DataParallel on one device: each replica takes a part of the batch, the outputs are concatenated."""

    def __init__(self, step: nn.Module, count: int):
        super().__init__()
        self.module, self.count = step, count

    def forward(self, images: Tensor, targets: tuple) -> Tensor:
        parts = zip(images.chunk(self.count), *(target.chunk(self.count) for target in targets))
        return torch.cat([self.module(some, type(targets)(*rest)) for some, *rest in parts])


class Killed(BaseException):
    """A BaseException, so that no handler catches it."""


def stopped_after(steps: int, work: Callable[[], None]) -> None:
    """Train, and be killed right after the checkpoint of step `steps`."""
    save_last = TrainState.save_last

    def save_and_die(state: TrainState, content: dict) -> None:
        save_last(state, content)
        if state.steps == steps:
            raise Killed

    with patch.object(TrainState, "save_last", save_and_die), pytest.raises(Killed):
        work()


@contextmanager
def samples_read() -> Iterator[list[tuple[int, int]]]:
    """Record the epoch and number of each training sample that this process reads."""
    items, get = [], MixedDataset.__getitem__

    def noted(self: MixedDataset, item: tuple[int, int]) -> tuple:
        items.extend([item] * self.augment)
        return get(self, item)

    with patch.object(MixedDataset, "__getitem__", noted):
        yield items


def in_a_child(work: Callable[[], object], output: Path = Path(os.devnull)) -> int:
    """Start `work` in a fork of this process and return its process number. output: a file for its output."""
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = output.open("w", buffering=1)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def free_port() -> int:
    """Return a port of this machine that nothing listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def in_ranks(count: int, work: Callable[[DistributedContext], dict], folder: Path) -> list[dict]:
    """Run `work`, which pickles, in `count` new processes over gloo and return the result of each.

    They are forks of a new process, which imports PyTorch once for all: PyTorch refuses a backward pass in a fork of one that has done one.
    """
    folder.mkdir(exist_ok=True)
    torch.multiprocessing.set_forkserver_preload(["torch.utils.tensorboard"])
    torch.multiprocessing.start_processes(_work_as_rank, (work, count, free_port(), folder), count, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in range(count)]


def _work_as_rank(rank: int, work: Callable[[DistributedContext], dict], count: int, port: int, folder: Path) -> None:
    """Save the result of `work` as one rank of `count`, and its output beside it."""
    sys.stdout = sys.stderr = (folder / f"rank{rank}.txt").open("w", buffering=1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    with distributed_context("distributed") as context:
        torch.save(work(context), folder / f"rank{rank}.pth")
