"""Training, for one device, DataParallel and DistributedDataParallel alike."""

from __future__ import annotations

import argparse
import reprlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from config import Config, UserError, load_config
from config.files import output_folder
from config.load import changed_keys
from config.progress import Progress
from data.samples import TrainingSet
from losses import build_loss
from models import build_model
from utils.checkpoint import init_weights, load_weights, read_checkpoint, save_checkpoint
from utils.systems import PoseSystem, pose_system
from utils.training.distributed import Parallel, World, joined
from utils.training.interrupts import Interrupts
from utils.training.loader import EpochBatches, build_loader, worker_errors_in_a_line
from utils.training.optimizer import build_optimizer, learning_rate
from utils.training.run_folder import AVERAGED, BEST, LAST, checkpoint_to_resume, describe_run, run_log

# What a validation loss depends on besides the weights: after a change the losses before it are not comparable.
VALIDATION_KEYS = ("data.val", "data.input_size", "augmentation.person_size", "targets", "loss", "skeleton")


def train_from_command_line(description: str, parallel: Parallel) -> None:
    """Parse what the three training scripts have in common, and train."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="YAML file, such as config/quickstart.yaml")
    parser.add_argument("--output", type=Path, help="the run's folder; default: runs/ and the configuration's name")
    parser.add_argument("--resume", metavar="auto|FILE", help="go on from a checkpoint; auto: the output folder's last one, if any")
    parser.add_argument("--init", type=Path, metavar="FILE", help="start from these weights, ours or published")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in train.batch_size=2")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    output = options.output or Path("runs") / Path(options.config).stem
    with Interrupts() as interrupts, joined(parallel) as world:
        train(config, output, world, options.resume, options.init, interrupts)


class TrainingStep(nn.Module):
    """Network and loss as one module, so that every kind of parallel training spreads both over its devices."""

    def __init__(self, network: nn.Module, loss: nn.Module, precision: str):
        super().__init__()
        self.network, self.loss = network, loss
        self.autocast = None if precision == "float32" else getattr(torch, precision)

    def forward(self, images: Tensor, *targets: Tensor) -> Tensor:
        """(1, ...) the loss's parts, times the number of images: what DataParallel gathers then sums to the whole batch's."""
        return self.loss.parts(self.outputs(images), *targets)[None] * len(images)

    def outputs(self, images: Tensor):
        """The network's answer in the configured precision."""
        with torch.autocast(images.device.type, self.autocast, enabled=self.autocast is not None):
            return self.network(images)


@dataclass
class Run:
    """What training holds on to between epochs."""

    config: Config
    output: Path
    world: World
    network: nn.Module  # bare
    step: nn.Module  # network and loss, spread over the devices
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    log: object
    board: SummaryWriter | None
    epoch: int = 0
    best: float = float("inf")  # lowest validation loss
    averaged: dict[str, Tensor] = field(default_factory=dict)  # stochastic weight averaging: the mean so far ...
    averages: int = 0  # ... of so many
    interrupts: Interrupts = field(default_factory=Interrupts)


def train(
    config: Config,
    output: Path,
    world: World,
    resume: str | None = None,
    init: Path | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Train from `config`; everything that is kept appears in the folder `output`."""
    settings, system = config.train, pose_system(config)
    for key, files in (("train", config.data.train_files), ("val", config.data.val_files)):
        if not files:
            raise UserError(f"data.{key}: no training file is configured; build one with data/coco_masks_hdf5.py")
    swa = settings.swa
    if swa.start_epoch is not None and settings.epochs - swa.start_epoch < swa.cycle:
        raise UserError(f"train.swa: no cycle of {swa.cycle} epochs fits between start_epoch {swa.start_epoch} and epoch {settings.epochs}")
    train_set = TrainingSet(config.data.train_files, config, system.samples, augment=True)
    val_set = TrainingSet(config.data.val_files, config, system.samples, augment=False)
    start = checkpoint_to_resume(output, resume)
    torch.manual_seed(settings.seed)  # the initial weights; samples and batches draw from generators of their own
    network = build_model(config)
    run = _prepare(config, output, world, network, init, start)
    run.interrupts = interrupts or run.interrupts
    batches = EpochBatches(train_set.sizes, config.data.train_weights, settings.batch_size, world, settings.seed)
    train_loader = build_loader(train_set, batches, config, world)
    val_batches = [list(range(i, min(i + settings.batch_size, len(val_set)))) for i in range(0, len(val_set), settings.batch_size)]
    val_loader = build_loader(val_set, val_batches[world.rank :: world.size], config, world)
    todo = f"epochs {run.epoch + 1} to {settings.epochs}" if run.epoch < settings.epochs else f"all {settings.epochs} epochs are done"
    run.log.info(
        f"{output}: {sum(p.numel() for p in network.parameters()):,} parameters, {len(train_set)} training and {len(val_set)} validation"
        f" samples, {world.size} x batch {settings.batch_size} on {world.device}, {todo}"
    )
    with _ended_in_words(run), worker_errors_in_a_line():
        for epoch in range(run.epoch, settings.epochs):
            train_set.epoch = batches.epoch = epoch
            train_loss = train_one_epoch(run, train_loader, epoch)
            val_loss = validate(run, val_loader, epoch, system)
            _average(run, epoch)
            _finish_epoch(run, epoch, train_loss, val_loss)
        _save_average(run, train_loader)


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


def train_one_epoch(run: Run, loader: DataLoader, epoch: int) -> float:
    """One pass over the training samples. Returns the mean loss of the accepted batches."""
    settings, world, device = run.config.train, run.world, run.world.device
    run.step.train()
    total = torch.zeros(2, device=device, dtype=torch.float64)  # sum of the losses, number of batches
    statistics = _RunningStatistics(run.network)
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
            accepted = _Acceptance(loss, settings.max_loss, world)
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
                _log_step(run, epoch * len(loader) + i, parts.detach(), rate, speed)
                note = f"loss {loss.item():.4g}  rate {rate:.3g}  {speed:.1f} samples/s"
            progress.advance(note=note)
    world.sum(total)
    if dropped:
        run.log.info(
            f"epoch {epoch + 1}: {dropped} of {len(loader)} batches dropped, their loss was not finite or over {settings.max_loss:g}"
        )
    if not total[1]:
        raise UserError(f"epoch {epoch + 1}: every batch's loss was not finite or over train.max_loss; lower train.learning_rate")
    return (total[0] / total[1]).item()


class _RunningStatistics:
    """A copy of the batch-norm statistics, which a batch has already changed by the time that it is dropped: a NaN would stay for ever."""

    def __init__(self, network: nn.Module):
        self.live = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.kept = [buffer.clone() for buffer in self.live]

    @torch.no_grad()
    def keep(self) -> None:
        torch._foreach_copy_(self.kept, self.live)  # one kernel for hundreds of small tensors

    @torch.no_grad()
    def restore(self) -> None:
        torch._foreach_copy_(self.live, self.kept)


class _Acceptance:
    """Whether a batch may change the weights, agreed by all processes and brought to the host without stopping the device."""

    def __init__(self, loss: Tensor, limit: float, world: World):
        bad = (~(loss.detach() <= limit)).float()  # NaN compares false
        self.flag = world.sum(bad)
        self.event = None
        if bad.device.type == "cuda":
            self.flag = torch.empty_like(bad, device="cpu", pin_memory=True).copy_(bad, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def known(self) -> bool:
        if self.event is not None:
            self.event.synchronize()
        return not self.flag.item()


@torch.no_grad()
def validate(run: Run, loader: DataLoader, epoch: int, system: PoseSystem) -> float:
    """The mean loss over all validation samples of all processes; a few pictures go to TensorBoard."""
    run.step.eval()
    step = run.step.module if isinstance(run.step, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else run.step
    total = torch.zeros(2, device=run.world.device, dtype=torch.float64)
    for i, batch in enumerate(loader):
        run.interrupts.check()
        images, *targets = (tensor.to(run.world.device, non_blocking=True) for tensor in batch)
        outputs = step.outputs(images)
        loss = step.loss(outputs, *targets)
        total += torch.stack([loss.double() * len(images), torch.full_like(loss, len(images), dtype=torch.float64)])
        if i == 0 and run.board is not None:
            count = run.config.train.val_images
            pictures = system.pictures(images[:count], outputs, targets, run.config) if count else []
            for n, picture in enumerate(pictures):
                run.board.add_image(f"validation/{n}", picture[..., ::-1].copy(), epoch + 1, dataformats="HWC")
    run.world.sum(total)
    return (total[0] / total[1]).item()


def _prepare(config: Config, output: Path, world: World, network: nn.Module, init: Path | None, start: Path | None) -> Run:
    """Put network, loss and optimizer on the devices and fill them from a checkpoint, if there is one."""
    settings = config.train
    told: list[str] = []  # for the log, once there is one
    if start is not None:
        load_weights(network, start)
        told += [f"{init}: not used, the run goes on from {start}"] * (init is not None)
    elif init is not None:
        taken, fresh = init_weights(network, init)
        told.append(f"{init}: {len(taken)} tensors taken, {len(fresh)} newly initialised{': ' * bool(fresh)}{', '.join(fresh)}")
    network.to(world.device, memory_format=torch.channels_last if settings.channels_last else torch.contiguous_format)
    step = TrainingStep(network, build_loss(config).to(world.device), settings.precision)
    optimizer = build_optimizer(network.parameters(), settings, world.device)
    scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "float16")
    run = Run(config, output, world, network, world.wrap(step, settings.sync_batchnorm), optimizer, scaler, None, None)
    if start is not None:
        told += _resume(run, start)
    output_folder(output)  # only now: nothing is left behind where a checkpoint does not fit
    run.log = run_log(output if world.is_main else None)
    if world.is_main:
        describe_run(output, config)
        run.board = SummaryWriter(str(output))
    for line in told:
        run.log.info(line)
    return run


def _resume(run: Run, path: Path) -> list[str]:
    """Take over a checkpoint's training state. Returns what the log should say about it."""
    content = read_checkpoint(path)
    if not {"optimizer", "scaler", "epoch", "best", "averaged", "averages", "config"} <= set(content):
        raise UserError(f"checkpoint {path}: has weights but no training state; start from it with --init instead of --resume")
    trained = content["config"]["train"]["optimizer"]
    if trained != run.config.train.optimizer:
        raise UserError(f"checkpoint {path}: was trained with train.optimizer={trained}; take only its weights with --init")
    configured = [{key: value for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(content["optimizer"])
    for group, values in zip(run.optimizer.param_groups, configured):
        group.update(values)  # the configuration in force counts, not the one that the checkpoint was trained with
    if content["scaler"]:  # empty where the checkpoint was trained in another precision
        run.scaler.load_state_dict(content["scaler"])
    run.epoch, run.best = content["epoch"], content["best"]
    run.averaged, run.averages = content["averaged"], content["averages"]
    told = [f"{path}: going on after epoch {run.epoch}"]
    changed = changed_keys(content["config"], run.config.model_dump(mode="json"))
    if changed:
        listed = "; ".join(f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changed.items())
        told.append(f"{path}: was trained with another configuration: {listed}")
    if any(f"{key}.".startswith(f"{part}.") for key in changed for part in VALIDATION_KEYS):
        run.best = float("inf")
        told.append("the validation loss is another one than before: the best checkpoint is chosen anew")
    return told


def _short(value: object) -> str:
    """A configuration's value on part of a line: paths whole, the lists of a skeleton not."""
    return value if isinstance(value, str) else reprlib.repr(value)


def _finish_epoch(run: Run, epoch: int, train_loss: float, val_loss: float) -> None:
    """Log the epoch and keep its checkpoint, before anything else can go wrong."""
    best = val_loss < run.best  # never for NaN
    run.epoch, run.best = epoch + 1, val_loss if best else run.best
    if run.world.is_main:
        content = _state(run)
        save_checkpoint(run.output / LAST, **content)
        if best:
            save_checkpoint(run.output / BEST, **content)
        run.board.add_scalars("loss", {"train": train_loss, "validation": val_loss}, epoch + 1)
        run.board.flush()
    run.log.info(f"epoch {epoch + 1}: training loss {train_loss:.5g}, validation loss {val_loss:.5g}{' (best)' * best}")
    run.world.wait()


def _state(run: Run) -> dict[str, object]:
    return {
        "weights": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "epoch": run.epoch,
        "best": run.best,
        "averaged": run.averaged,
        "averages": run.averages,
        "config": run.config.model_dump(mode="json"),
    }


def _average(run: Run, epoch: int) -> None:
    """At the end of an averaging cycle, take the weights into their mean."""
    swa = run.config.train.swa
    if swa.start_epoch is None or epoch < swa.start_epoch or (epoch + 1 - swa.start_epoch) % swa.cycle:
        return
    run.averages += 1
    for name, tensor in run.network.state_dict().items():
        mean = run.averaged.setdefault(name, torch.zeros_like(tensor, device="cpu"))
        if tensor.is_floating_point():
            mean += (tensor.cpu() - mean) / run.averages


def _save_average(run: Run, loader: DataLoader) -> None:
    """The averaged weights, their batch-norm statistics taken anew over the training samples, as a checkpoint of its own."""
    if not run.averages:
        return
    run.network.load_state_dict(run.averaged)
    run.step.train()
    norms = [module for module in run.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    with torch.no_grad():
        for images, *_ in loader:
            run.network(images.to(run.world.device))
    if run.world.is_main:
        save_checkpoint(run.output / AVERAGED, **{**_state(run), "weights": run.network.state_dict()})
    run.log.info(f"{run.output / AVERAGED}: the mean of {run.averages} cycles' weights")


def _log_step(run: Run, step: int, parts: Tensor, rate: float, speed: float) -> None:
    if run.board is None:
        return
    name = run.step.module.loss.part_name if hasattr(run.step, "module") else run.step.loss.part_name
    for index, value in np.ndenumerate(parts.cpu().numpy()):
        run.board.add_scalar(f"parts/{name(*index)}", value, step)
    run.board.add_scalar("train/loss", parts.sum().item(), step)
    run.board.add_scalar("train/learning rate", rate, step)
    run.board.add_scalar("train/samples a second", speed, step)
