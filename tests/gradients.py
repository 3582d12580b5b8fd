"""The gradient of one training step, as each of the three trainers would take it, all through `utils.training.trainer.train_one_epoch`.

Run by torchrun it is one of the processes, and the first of them writes the gradient:
    torchrun --nproc_per_node=2 tests/gradients.py --output FILE [--train-norms]
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in tests/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import logging
import os
import subprocess
import tempfile

import torch
import torch.distributed as dist
from torch import Tensor, nn

from config import Config, load_config
from data.datasets.simplepose import SimplePoseSample
from data.targets.simplepose import SimplePoseTargets
from losses import build_loss
from models import build_model
from utils.device import as_images
from utils.distributed import DistributedContext, distributed_context
from utils.training.optimizer import build_optimizer
from utils.training.state import Run
from utils.training.step import TrainingStep
from utils.training.trainer import train_one_epoch

ROOT = Path(__file__).resolve().parents[1]
BATCH = 8
SIDE = 64
OVERRIDES = (
    *("model.stages=2", "model.channels=32", "model.channels_increase=16", "model.depth=2", f"data.input_size=[{SIDE}, {SIDE}]"),
    *("loss.scale_weights=[0.1, 0.2, 0.4]", "train.precision=float64"),
)
State = dict[str, Tensor]  # a gradient or a batch-norm statistic by its parameter's or buffer's name


class Replicas(nn.Module):
    """What DataParallel does, on one device: a part of the batch for each replica, the answers one after the other."""

    def __init__(self, step: nn.Module, count: int):
        super().__init__()
        self.module, self.count = step, count

    def forward(self, images: Tensor, targets: SimplePoseTargets) -> Tensor:
        parts = zip(images.chunk(self.count), *(target.chunk(self.count) for target in targets))
        return torch.cat([self.module(some, SimplePoseTargets(*rest)) for some, *rest in parts])


def small_config() -> Config:
    """The published recipe with a network small enough to differentiate in double precision."""
    return load_config(ROOT / "config" / "simplepose_coco_512.yaml", OVERRIDES)


def sample_batch(config: Config, count: int) -> SimplePoseSample:
    """As the loader gives it: random images (count, 64, 64, 3), five people anywhere in them, and masks that are unlike each other."""
    generator = torch.Generator().manual_seed(1)
    size = SIDE // config.targets.stride
    images = torch.randint(256, (count, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    points = torch.rand(count, 5, config.skeleton.num_keypoints, 2, generator=generator) * SIDE
    labeled, channel_mask = (torch.ones(shape, dtype=torch.bool) for shape in (points.shape[:-1], (count, config.channels.count)))
    share = torch.linspace(0.2, 1, count)[:, None, None]  # how much of each image counts
    miss, everyone = ((torch.rand(count, size, size, generator=generator) < part).byte() * 255 for part in (share, 0.5))
    return SimplePoseSample(images, points, labeled, miss, everyone, channel_mask)


def one_step(world: DistributedContext, batch: SimplePoseSample, train_norms: bool, replicas: int = 1) -> tuple[State, State]:
    """The gradient that reaches the optimizer, and the network's buffers after the step.

    batch: this process's samples. train_norms: batch norm as in training; else with its stored statistics.
    """
    config = small_config()
    torch.manual_seed(0)
    network = _lively(build_model(config).double()).to(world.device)
    if not train_norms:
        _freeze_norms(network)
    step = TrainingStep(network, build_loss(config).double().to(world.device), "float64")
    optimizer = build_optimizer(network.parameters(), config.train, world.device)
    gradient: State = {}
    optimizer.register_step_pre_hook(lambda *_: gradient.update({n: p.grad.cpu().clone() for n, p in network.named_parameters()}))
    spread = Replicas(step, replicas) if replicas > 1 else world.wrap(step, config.train)
    scaler = torch.amp.GradScaler(world.device.type, enabled=False)
    with tempfile.TemporaryDirectory() as folder:  # of the step's checkpoint
        run = Run(config, Path(folder), world, network, spread, optimizer, scaler, logging.getLogger(__name__), None)
        train_one_epoch(run, [batch], 0)
    return gradient, {name: buffer.cpu().clone() for name, buffer in network.named_buffers()}


def in_one_process(train_norms: bool = False, replicas: int = 1, count: int = BATCH, device: str = "cpu") -> tuple[State, State]:
    """The step of train.py, or with several replicas of train_parallel.py, on a whole batch."""
    return one_step(DistributedContext("none", torch.device(device)), sample_batch(small_config(), count), train_norms, replicas)


def in_data_parallel(count: int = BATCH) -> tuple[State, State]:
    """The step of train_parallel.py on this machine's GPUs."""
    return one_step(DistributedContext("data_parallel", torch.device("cuda", 0)), sample_batch(small_config(), count), False)


def in_processes(count: int, train_norms: bool = False, gpu: bool = False) -> tuple[State, State]:
    """The step of train_distributed.py in `count` processes that share the batch; gpu: all of them on the first GPU."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "gradient.pth"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", __file__]
        options = ["--output", str(output), *["--train-norms"] * train_norms]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})}
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"torchrun failed:\n{done.stderr[-3000:]}")
        content = torch.load(output, weights_only=True)
    return content["gradient"], content["buffers"]


def largest_difference(a: State, b: State) -> float:
    """The largest absolute difference over everything in both."""
    if a.keys() != b.keys() or not a:
        raise ValueError(f"{len(a)} and {len(b)} tensors, not the same ones")
    return max((a[name] - b[name]).abs().max().item() for name in a)


def _lively(network: nn.Module) -> nn.Module:
    """Weights and batch-norm statistics under which every layer matters; the published initial ones are close to zero."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one batch below
    with torch.no_grad():
        network(as_images(sample_batch(small_config(), BATCH).image, torch.device("cpu")).double())
    return network


def _freeze_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, norm=module: norm  # the trainer's own call must not thaw it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train-norms", action="store_true")
    options = parser.parse_args()
    if torch.cuda.is_available():
        # Several processes on one GPU: NCCL refuses that, gloo does not.
        dist.init_process_group("gloo")
        world = DistributedContext("distributed", torch.device("cuda", 0), dist.get_rank(), dist.get_world_size())
        _write_step(world, options)
        dist.destroy_process_group()
        return
    with distributed_context("distributed") as world:
        _write_step(world, options)


def _write_step(world: DistributedContext, options: argparse.Namespace) -> None:
    share = BATCH // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    batch = SimplePoseSample(*(tensor[mine] for tensor in sample_batch(small_config(), BATCH)))
    gradient, buffers = one_step(world, batch, options.train_norms)
    if world.is_main:
        torch.save({"gradient": gradient, "buffers": buffers}, options.output)


if __name__ == "__main__":
    main()
