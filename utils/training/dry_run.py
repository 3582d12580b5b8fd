"""What a run would take: everything built as for a training, two steps, and nothing written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from config import Config
from data.datasets import collate
from utils.distributed import DistributedContext
from utils.training.curves import memory_peak
from utils.training.frozen import train_mode
from utils.training.loader import begin_epoch
from utils.training.prepare import build_loaders, build_run
from utils.training.state import Run
from utils.training.step import batch_on
from utils.training.trainer import add_gradients, apply_gradients


def dry_run(config: Config, world: DistributedContext, init: Path | None = None) -> None:
    """Print shapes, parameters, memory and the estimated time of an epoch."""
    loader, val_loader = build_loaders(config, world)
    run, told = build_run(config, Path(), world, init)
    begin_epoch(loader, 0)
    batches, sample_seconds = read_step(loader, config.train.accumulate)
    train_mode(run.step, run.network)
    with torch.no_grad():
        images, targets = batch_on(world.device, batches[0], config)
        outputs = world.unwrap(run.step).outputs(images)
    seconds = [step_seconds(run, batches) for _ in range(2)]  # the first one also allocates, chooses algorithms, compiles
    if not world.is_main:
        return
    steps, samples = len(loader) // config.train.accumulate, run.step_size // world.size
    reading = samples * sample_seconds / max(1, config.data.workers)  # this process's samples of a step
    step = max(seconds[-1], reading) if config.data.workers else seconds[-1] + reading
    learning = sum(p.numel() for p in run.network.parameters() if p.requires_grad)
    epoch, epochs = steps * step, config.train.epochs
    lines = [
        *told,
        f"system {config.system}, {world.size} x batch {config.train.batch_size} x {config.train.accumulate} on {world.device}",
        f"samples: {len(loader.dataset):,} for training, {len(val_loader.dataset):,} for validation",
        f"parameters: {sum(p.numel() for p in run.network.parameters()):,}, of which {learning:,} learn",
        f"images: {shape(images)}",
        *(f"targets: {name} {shape(tensor)}" for name, tensor in targets._asdict().items()),
        *(f"output: {text}" for text in sorted(shapes(outputs))),
        f"memory: {memory_peak(world.device):,.0f} MiB of {'the GPU' if world.device.type == 'cuda' else 'the machine'} at most",
        f"step: {seconds[0]:.3g} s, then {seconds[1]:.3g} s; its samples: {reading:.3g} s with {config.data.workers} loader processes",
        f"epoch: {steps:,} steps, about {duration(epoch)}; {epochs} epochs: {duration(epochs * epoch)}",
    ]
    print("\n".join(lines))


def read_step(loader: DataLoader, accumulate: int) -> tuple[list[NamedTuple], float]:
    """One optimizer step's batches, read by this process, and the seconds that a sample took."""
    numbers = [batch for batch, _ in zip(loader.batch_sampler, range(accumulate))]
    since = time.perf_counter()
    batches = [collate([loader.dataset[number] for number in batch]) for batch in numbers]
    return batches, (time.perf_counter() - since) / sum(map(len, numbers))


def step_seconds(run: Run, batches: list[NamedTuple]) -> float:
    """Take one optimizer step; how long it took."""
    since = time.perf_counter()
    add_gradients(run, batches)
    apply_gradients(run, measured=False)
    run.optimizer.zero_grad(set_to_none=True)
    if run.world.device.type == "cuda":
        torch.cuda.synchronize(run.world.device)
    return time.perf_counter() - since


def shapes(outputs: Any) -> set[str]:
    """The shapes of all tensors in what a network answers."""
    if isinstance(outputs, Tensor):
        return {shape(outputs)}
    return set().union(*map(shapes, outputs)) if isinstance(outputs, Iterable) else set()


def shape(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"


def duration(seconds: float) -> str:
    """In the unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
