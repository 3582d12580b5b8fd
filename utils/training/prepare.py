"""What a training needs, built from its configuration: loaders, network, loss and optimizer, filled from a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from config import Config, UserError
from data.datasets import MixedDataset
from losses import build_loss
from models import build_model
from utils.checkpoint import init_weights, load_backbone, load_weights
from utils.distributed import DistributedContext
from utils.training.averaging import build_averages
from utils.training.curves import Curves, run_log
from utils.training.frozen import freeze
from utils.training.loader import EpochBatches, build_loader
from utils.training.optimizer import build_optimizer
from utils.training.randomness import seed
from utils.training.run_folder import open_folder
from utils.training.state import Run, check_agreement, resume
from utils.training.step import TrainingStep


def build_loaders(config: Config, world: DistributedContext) -> tuple[DataLoader, DataLoader]:
    """Training samples in this process's share of each epoch, and its share of the validation samples, in batches."""
    settings = config.train
    for key, files in (("train", config.data.train_files), ("val", config.data.val_files)):
        if not files:
            raise UserError(f"data.{key}: no training file is configured; build one with data/coco_masks_hdf5.py")
    train_set = MixedDataset(config.data.train_files, config, augment=True)
    val_set = MixedDataset(config.data.val_files, config, augment=False)
    weights, size = config.data.train_weights, settings.batch_size
    batches = EpochBatches(train_set.sizes, weights, size, world, settings.seed, settings.accumulate, config.data.shuffle_block)
    val_batches = [[(0, n) for n in range(i, min(i + size, len(val_set)))] for i in range(0, len(val_set), size)][world.rank :: world.size]
    return build_loader(train_set, batches, config, world, stays=True), build_loader(val_set, val_batches, config, world, stays=False)


def build_run(
    config: Config, output: Path, world: DistributedContext, init: Path | None = None, start: Path | None = None
) -> tuple[Run, list[str]]:
    """A run at its start, or where the checkpoint `start` left it, and what its log should say about it. Nothing is written.

    init: weights to start from.
    """
    settings = config.train
    swa, epochs = settings.swa, settings.epochs
    if swa.start_epoch is not None and epochs - swa.start_epoch < swa.cycle:
        raise UserError(f"train.swa: no cycle of {swa.cycle} epochs fits between start_epoch {swa.start_epoch} and epoch {epochs}")
    if settings.evaluate_every and settings.precision == "float64":
        raise UserError("train.evaluate_every: people are not looked for in float64; take another train.precision")
    torch.manual_seed(settings.seed)  # the initial weights, the same in all processes
    network = build_model(config)
    seed(settings.seed, world.rank)
    told = _fill(network, config, init, start)
    freeze(network, settings.freeze)
    dtype = torch.float64 if settings.precision == "float64" else None
    network.to(world.device, dtype, memory_format=torch.channels_last if settings.channels_last else torch.contiguous_format)
    step = TrainingStep(network, build_loss(config).to(world.device), settings.precision)
    optimizer = build_optimizer([p for p in network.parameters() if p.requires_grad], settings, world.device)
    scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "float16")
    averages = build_averages(network, settings)
    spread = world.wrap(step, settings)
    run = Run(config, output, world, network, spread, optimizer, scaler, run_log(None), None, averages)
    if start is not None:
        told += resume(run, start)
    check_agreement(run)
    return run, told


def open_run(run: Run, told: list[str]) -> None:
    """Make the run's folder, its log and curves; only now, so that nothing is left behind where a checkpoint does not fit."""
    if run.world.is_main:
        open_folder(run.output, run.config)
        run.curves = Curves(run.output, run.steps, run.epoch)
    run.log = run_log(run.output if run.world.is_main else None)
    for line in told:
        run.log.info(line)


def set_precision(config: Config) -> None:
    """How exact, and how repeatable, PyTorch's products and convolutions are."""
    tf32, deterministic = config.train.tf32, config.train.deterministic
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = not deterministic  # all batches are of one size
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def _fill(network: nn.Module, config: Config, init: Path | None, start: Path | None) -> list[str]:
    """Weights from the checkpoint to go on from, from `--init`, or a trunk from `model.backbone`. Returns what the log should say."""
    backbone = config.model.backbone
    if start is not None:
        load_weights(network, start)
        return [f"{init}: not used, the run goes on from {start}"] * (init is not None)
    if init is not None:
        taken, fresh = init_weights(network, init)
        told = [f"{init}: {len(taken)} tensors taken, {len(fresh)} newly initialised{': ' * bool(fresh)}{', '.join(fresh)}"]
        return told + [f"{backbone}: not used, --init has the trunk too"] * (backbone is not None)
    if backbone is not None:
        taken, fresh = load_backbone(network, backbone)
        return [f"{backbone}: the trunk's {len(taken)} tensors taken, {len(fresh)} others newly initialised"]
    return []
