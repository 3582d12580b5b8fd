"""The way of a training run: from a configuration and people files to checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from config import Config, UserError
from config.files import output_folder
from config.progress import Progress
from data.samples import TrainingSet
from losses import build_loss
from models import build_model
from utils.checkpoint import init_weights, load_backbone, load_weights, save_checkpoint
from utils.systems import PoseSystem, pose_system
from utils.training.acceptance import Acceptance, RunningStatistics
from utils.training.averaging import cycle_ends, refresh_statistics, take_into_mean
from utils.training.distributed import World
from utils.training.frozen import freeze, train_mode
from utils.training.interrupts import Interrupts
from utils.training.loader import EpochBatches, build_loader, worker_errors_in_a_line
from utils.training.logs import log_pictures, log_step, run_log
from utils.training.optimizer import build_optimizer, learning_rate
from utils.training.run_folder import AVERAGED, BEST, LAST, checkpoint_to_resume, describe_run
from utils.training.state import Run, checkpoint_content, resume
from utils.training.step import TrainingStep


def train(
    config: Config,
    output: Path,
    world: World,
    resumed: str | None = None,
    init: Path | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Train from `config`; everything that is kept appears in the folder `output`.

    resumed: the checkpoint to go on from, or "auto". init: weights to start from.
    """
    settings, system = config.train, pose_system(config)
    _check(config)
    train_set = TrainingSet(config.data.train_files, config, system.samples, augment=True)
    val_set = TrainingSet(config.data.val_files, config, system.samples, augment=False)
    start = checkpoint_to_resume(output, resumed)
    torch.manual_seed(settings.seed)  # the initial weights; samples and batches draw from generators of their own
    run = _prepare(config, output, world, build_model(config), init, start)
    run.interrupts = interrupts or run.interrupts
    batches = EpochBatches(train_set.sizes, config.data.train_weights, settings.batch_size, world, settings.seed)
    train_loader = build_loader(train_set, batches, config, world)
    val_batches = [list(range(i, min(i + settings.batch_size, len(val_set)))) for i in range(0, len(val_set), settings.batch_size)]
    val_loader = build_loader(val_set, val_batches[world.rank :: world.size], config, world)
    todo = f"epochs {run.epoch + 1} to {settings.epochs}" if run.epoch < settings.epochs else f"all {settings.epochs} epochs are done"
    run.log.info(
        f"{output}: {sum(p.numel() for p in run.network.parameters()):,} parameters, {len(train_set)} training and"
        f" {len(val_set)} validation samples, {world.size} x batch {settings.batch_size} on {world.device}, {todo}"
    )
    with _ended_in_words(run), worker_errors_in_a_line():
        for epoch in range(run.epoch, settings.epochs):
            train_set.epoch = batches.epoch = epoch
            train_loss = train_one_epoch(run, train_loader, epoch)
            val_loss = validate(run, val_loader, epoch, system)
            if cycle_ends(epoch, settings.swa):
                run.averages = take_into_mean(run.averaged, run.averages, run.network.state_dict())
            _finish_epoch(run, epoch, train_loss, val_loss)
        if run.averages:
            train_set.epoch = batches.epoch = settings.epochs  # the same samples, wherever a run that was interrupted goes on
            _save_average(run, train_loader)


def train_one_epoch(run: Run, loader: DataLoader, epoch: int) -> float:
    """One pass over the training samples. Returns the mean loss of the accepted batches."""
    settings, world, device = run.config.train, run.world, run.world.device
    train_mode(run.step, run.network)
    total = torch.zeros(2, device=device, dtype=torch.float64)  # sum of the losses, number of batches
    statistics = RunningStatistics(run.network)
    dropped, note, last_logged, since = 0, "", 0, time.perf_counter()
    with Progress(len(loader), f"epoch {epoch + 1}/{settings.epochs}", "batch", world.is_main) as progress:
        for i, batch in enumerate(loader):
            run.interrupts.check()
            images, *targets = (tensor.to(device, non_blocking=True) for tensor in batch)
            rate = learning_rate(epoch, i, len(loader), settings, world.size)
            for group in run.optimizer.param_groups:
                group["lr"] = rate

            statistics.keep()
            parts = run.step(images, *targets).sum(0) / len(images)
            loss = parts.sum()
            accepted = Acceptance(loss, settings.max_loss, world)
            run.scaler.scale(loss).backward()
            if accepted.known():  # asked only now: the device is busy with the backward pass, nothing waits
                if settings.clip_norm is not None:
                    run.scaler.unscale_(run.optimizer)
                    nn.utils.clip_grad_norm_(run.network.parameters(), settings.clip_norm)
                run.scaler.step(run.optimizer)
                run.scaler.update()
                total += torch.stack([loss.detach().double(), torch.ones_like(loss, dtype=torch.float64)])
            else:
                statistics.restore()
                dropped += 1
            run.optimizer.zero_grad(set_to_none=True)

            if (i + 1) % settings.log_every == 0 or i + 1 == len(loader):
                now = time.perf_counter()
                speed = (i + 1 - last_logged) * len(images) * world.size / (now - since)
                last_logged, since = i + 1, now
                log_step(run.board, world.bare(run.step).loss, epoch * len(loader) + i, parts.detach(), rate, speed)
                note = f"loss {loss.item():.4g}  rate {rate:.3g}  {speed:.1f} samples/s"
            progress.advance(note=note)
    world.sum(total)
    limit = "" if settings.max_loss is None else f" or over {settings.max_loss:g}"
    if dropped:
        run.log.info(f"epoch {epoch + 1}: {dropped} of {len(loader)} batches dropped, their loss was not finite{limit}")
    if not total[1]:
        raise UserError(f"epoch {epoch + 1}: every batch's loss was not finite{limit} (train.max_loss); lower train.learning_rate")
    return (total[0] / total[1]).item()


@torch.no_grad()
def validate(run: Run, loader: DataLoader, epoch: int, system: PoseSystem) -> float:
    """The mean loss over all validation samples of all processes; a few pictures go to TensorBoard."""
    run.step.eval()
    step = run.world.without_waiting(run.step)
    total = torch.zeros(2, device=run.world.device, dtype=torch.float64)  # sum over samples, their number
    for i, batch in enumerate(loader):
        run.interrupts.check()
        images, *targets = (tensor.to(run.world.device, non_blocking=True) for tensor in batch)
        total += torch.stack([step(images, *targets).sum().double(), total.new_tensor(len(images))])
        count = run.config.train.val_images
        if i == 0 and run.board is not None and count:
            shown, wanted = images[:count], tuple(target[:count] for target in targets)
            outputs = run.world.bare(run.step).outputs(shown)
            log_pictures(run.board, system.pictures(shown, outputs, wanted, run.config), epoch + 1)
    run.world.sum(total)
    return (total[0] / total[1]).item()


def _check(config: Config) -> None:
    """What is wrong with a configuration as far as training goes."""
    for key, files in (("train", config.data.train_files), ("val", config.data.val_files)):
        if not files:
            raise UserError(f"data.{key}: no training file is configured; build one with data/coco_masks_hdf5.py")
    swa, epochs = config.train.swa, config.train.epochs
    if swa.start_epoch is not None and epochs - swa.start_epoch < swa.cycle:
        raise UserError(f"train.swa: no cycle of {swa.cycle} epochs fits between start_epoch {swa.start_epoch} and epoch {epochs}")


def _prepare(config: Config, output: Path, world: World, network: nn.Module, init: Path | None, start: Path | None) -> Run:
    """Put network, loss and optimizer on the devices and fill them from a checkpoint, if there is one."""
    settings = config.train
    told = _fill(network, config, init, start)  # for the log, once there is one
    freeze(network, settings.freeze)
    network.to(world.device, memory_format=torch.channels_last if settings.channels_last else torch.contiguous_format)
    step = TrainingStep(network, build_loss(config).to(world.device), settings.precision)
    optimizer = build_optimizer([p for p in network.parameters() if p.requires_grad], settings, world.device)
    scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "float16")
    log = run_log(None)
    run = Run(config, output, world, network, world.wrap(step, settings.sync_batchnorm), optimizer, scaler, log, None)
    if start is not None:
        told += resume(run, start)
    output_folder(output)  # only now: nothing is left behind where a checkpoint does not fit
    run.log = run_log(output if world.is_main else None)
    if world.is_main:
        describe_run(output, config)
        run.board = SummaryWriter(str(output))
    for line in told:
        run.log.info(line)
    return run


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


@contextmanager
def _ended_in_words(run: Run) -> Iterator[None]:
    """What ends the training from outside is told in one line."""
    try:
        yield
    except (KeyboardInterrupt, RuntimeError, UserError) as error:
        # Where another process was interrupted first, this one may see only that its connection is gone.
        if isinstance(error, KeyboardInterrupt) or run.interrupts.asked:
            raise KeyboardInterrupt(
                f"interrupted in epoch {run.epoch + 1}; {run.epoch} whole epochs are kept, go on with --resume auto --output {run.output}"
            ) from None
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError(f"the memory of {run.world.device} is used up; lower train.batch_size or data.input_size") from error
        raise
    finally:
        if run.board is not None:
            run.board.close()


def _finish_epoch(run: Run, epoch: int, train_loss: float, val_loss: float) -> None:
    """Log the epoch and keep its checkpoint, before anything else can go wrong."""
    best = val_loss < run.best  # never for NaN
    run.epoch, run.best = epoch + 1, val_loss if best else run.best
    if run.world.is_main:
        content = checkpoint_content(run)
        save_checkpoint(run.output / LAST, **content)
        if best:
            save_checkpoint(run.output / BEST, **content)
        run.board.add_scalars("loss", {"train": train_loss, "validation": val_loss}, epoch + 1)
        run.board.flush()
    run.log.info(f"epoch {epoch + 1}: training loss {train_loss:.5g}, validation loss {val_loss:.5g}{' (best)' * best}")
    run.world.wait()


def _save_average(run: Run, loader: DataLoader) -> None:
    """The averaged weights, their batch-norm statistics taken anew over the training samples, as a checkpoint of its own."""
    run.network.load_state_dict(run.averaged)
    train_mode(run.step, run.network)
    refresh_statistics(run.network, (images.to(run.world.device) for images, *_ in loader))
    if run.world.is_main:
        save_checkpoint(run.output / AVERAGED, **{**checkpoint_content(run), "weights": run.network.state_dict()})
    run.log.info(f"{run.output / AVERAGED}: the mean of {run.averages} cycles' weights")
