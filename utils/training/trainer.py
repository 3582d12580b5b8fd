"""The way of a training run: from a configuration and people files to checkpoints."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import Config, UserError
from config.files import output_folder, sole_writer
from config.progress import Progress
from utils.checkpoint import save_checkpoint
from utils.distributed import DistributedContext
from utils.training.acceptance import Acceptance, RunningStatistics
from utils.training.averaging import cycle_ends, refresh_statistics
from utils.training.curves import loss_values, memory_peak
from utils.training.frozen import train_mode
from utils.training.interrupts import Interrupts
from utils.training.loader import begin_epoch, ending, images_of, worker_errors_in_a_line
from utils.training.optimizer import learning_rate
from utils.training.prepare import build_loaders, build_run, open_run
from utils.training.run_folder import AVERAGES, BEST, checkpoint_to_resume
from utils.training.state import Dropped, Run, checkpoint_content, keep
from utils.training.step import batch_on, images_on
from utils.training.validation import find_people, validate

SHOWN = 20  # images in a message


def train(
    config: Config,
    output: Path,
    world: DistributedContext,
    resumed: str | None = None,
    init: Path | None = None,
    interrupts: Interrupts | None = None,
) -> None:
    """Train from `config`; everything that is kept appears in the folder `output`.

    resumed: the checkpoint to go on from, or "auto". init: weights to start from.
    """
    train_loader, val_loader = build_loaders(config, world)
    start, told = checkpoint_to_resume(output, resumed)
    run, told_too = build_run(config, output, world, init, start)
    run.interrupts = interrupts or run.interrupts
    with sole_writer(output_folder(output)) if world.is_main else nullcontext():
        open_run(run, told + told_too)
        _train_epochs(run, train_loader, val_loader)


def _train_epochs(run: Run, train_loader: DataLoader, val_loader: DataLoader) -> None:
    """What is left of the run."""
    settings, world = run.config.train, run.world
    todo = f"epochs {run.epoch + 1} to {settings.epochs}" if run.epoch < settings.epochs else f"all {settings.epochs} epochs are done"
    batch = f"{world.size} x batch {settings.batch_size}" + f" x {settings.accumulate}" * (settings.accumulate > 1)
    run.log.info(
        f"{run.output}: {sum(p.numel() for p in run.network.parameters()):,} parameters, {len(train_loader.dataset)} training and"
        f" {len(val_loader.dataset)} validation samples, {batch} on {world.device}, {todo}"
    )
    with _ended_in_words(run), worker_errors_in_a_line(), ending(train_loader):
        for epoch in range(run.epoch, settings.epochs):
            begin_epoch(train_loader, epoch, run.taken)
            train_loss = train_one_epoch(run, train_loader, epoch)
            if cycle_ends(epoch, settings.swa):
                run.averages["swa"].update_parameters(run.network)
            _finish_epoch(run, epoch, train_loss, val_loader)
        if "swa" in run.averages and run.averages["swa"].n_averaged:
            begin_epoch(train_loader, settings.epochs)  # the same samples, wherever a run that was interrupted goes on
            _finish_average(run, train_loader, val_loader)


def train_one_epoch(run: Run, loader: DataLoader, epoch: int) -> float:
    """What is left of one pass over the training samples. Returns the mean loss of the accepted steps of the whole pass."""
    settings, world = run.config.train, run.world
    train_mode(run.step, run.network)
    statistics = RunningStatistics(run.network)
    done = run.taken / run.step_size  # a whole number, but after a change in the number of processes
    in_epoch = done + len(loader) // settings.accumulate
    meter = Meter()
    with run.interrupts.held(), Progress(round(in_epoch), f"epoch {epoch + 1}/{settings.epochs}", "step", world.is_main) as progress:
        progress.skip(round(done))
        for i, batches in enumerate(meter.waiting(_steps(loader, settings.accumulate)), start=1):
            rate = learning_rate(epoch, done + i - 1, in_epoch, settings, world.size)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            statistics.keep()
            parts, acceptance = add_gradients(run, batches)
            bad, stop = acceptance.known()  # asked only now: the device is busy with the backward pass, nothing waits
            ends = done + i == in_epoch
            logged = ends or (run.steps + 1) % settings.log_every == 0
            norm = None
            if bad:
                statistics.restore()
            else:
                norm = apply_gradients(run, logged)
                run.sums.add(parts)
            run.optimizer.zero_grad(set_to_none=True)
            _count_step(run, epoch, bad, loader)
            if logged:
                _log_point(run, rate, norm, meter)
            progress.advance(note=meter.note)
            every = settings.checkpoint_every
            if stop or ends or (every and (round(done) + i) % every == 0):  # at the end, since a validation can take long
                keep(run, checkpoint_content(run))
            if stop:
                raise KeyboardInterrupt
    return _mean_loss(run, epoch)


def add_gradients(run: Run, batches: list[NamedTuple]) -> tuple[Tensor, Acceptance]:
    """Forward and backward of one step's batches, the mean of their losses. Returns the loss's parts, and whether the step is good."""
    settings, device = run.config.train, run.world.device
    losses, total = [], torch.zeros((), device=device)
    for n, batch in enumerate(batches, start=1):
        images, targets = batch_on(device, batch, run.config)
        last = n == len(batches)
        with run.world.grad_sync(run.step, now=last):
            parts = run.step(images, targets).sum(0) / len(images)
            loss = parts.sum()
            losses.append(loss.detach())
            total = total + parts.detach()
            if last:
                acceptance = Acceptance(torch.stack(losses), settings.max_loss, run.interrupts.asked, run.world)
            run.scaler.scale(loss / len(batches)).backward()
    return total / len(batches), acceptance


def _steps(loader: DataLoader, accumulate: int) -> Iterator[list[NamedTuple]]:
    """The batches of each optimizer step."""
    batches = []
    for batch in loader:
        batches.append(batch)
        if len(batches) == accumulate:
            yield batches
            batches = []


def apply_gradients(run: Run, measured: bool) -> Tensor | None:
    """Change the weights. Returns the gradient's norm before clipping, where it is clipped or to be measured."""
    clip, norm = run.config.train.clip_norm, None
    if clip is not None or measured:
        run.scaler.unscale_(run.optimizer)
        gradients = [p.grad for p in run.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(run.network.parameters(), clip, norm)
    ema = run.averages.get("ema")
    scale = run.scaler.get_scale() if ema is not None else 0.0  # read from the device; without a scaler a constant
    run.scaler.step(run.optimizer)
    run.scaler.update()
    if ema is not None and run.scaler.get_scale() >= scale:  # else the scaler has skipped the step: its gradient was not finite
        ema.update_parameters(run.network)
    return norm


def _count_step(run: Run, epoch: int, bad: list[int], loader: DataLoader) -> None:
    """Count the step. bad: the ranks whose losses it is skipped for. Raises UserError after several of these in a row."""
    if bad:
        run.dropped += 1
        run.dropped_in_row.append(Dropped(epoch, run.taken, bad))
    else:
        run.dropped_in_row.clear()
    run.taken += run.step_size
    run.steps += 1
    if len(run.dropped_in_row) >= run.config.train.max_dropped:
        images = list(dict.fromkeys(image for dropped in run.dropped_in_row for image in images_of(loader, **vars(dropped))))
        named = ", ".join(map(str, images[:SHOWN])) + f" and {len(images) - SHOWN} more" * (len(images) > SHOWN)
        raise UserError(
            f"epoch {epoch + 1}: {len(run.dropped_in_row)} steps in a row were dropped, their loss was not finite{_limit(run)};"
            f" lower train.learning_rate, or look at their images: {named}"
        )


def _limit(run: Run) -> str:
    limit = run.config.train.max_loss
    return "" if limit is None else f" or over {limit:g} (train.max_loss)"


class Meter:
    """Where the time goes between two points of the curves."""

    def __init__(self) -> None:
        self.note, self.waited, self.steps, self.since = "", 0.0, 0, time.perf_counter()

    def waiting(self, steps: Iterator[list]) -> Iterator[list]:
        """The steps' batches, the time until they come counted."""
        while True:
            asked = time.perf_counter()
            batches = next(steps, None)
            self.waited += time.perf_counter() - asked
            if batches is None:
                return
            self.steps += 1
            yield batches

    def read(self) -> tuple[float, float]:
        """Steps a second and the share of the time in which they waited for their batches, since the last call."""
        now = time.perf_counter()
        seconds = now - self.since
        read = self.steps / seconds, self.waited / seconds
        self.waited, self.steps, self.since = 0.0, 0, now
        return read


def _log_point(run: Run, rate: float, norm: Tensor | None, meter: Meter) -> None:
    """A point of every curve: the only place where something is read back from the device. All processes come here together."""
    sums, world = run.sums, run.world
    steps_a_second, waiting = meter.read()
    count = int(world.all_reduce(torch.tensor(sums.count, device=world.device)))
    if not count:
        return
    parts = world.all_reduce(sums.parts) / count
    sums.parts, sums.count = torch.zeros_like(sums.epoch[0]), 0
    if run.curves is None:
        return
    values = loss_values(world.unwrap(run.step).loss, parts)
    values |= {"train/learning rate": rate, "train/dropped steps": run.dropped}
    if norm is not None:
        values["train/gradient norm"] = norm.item()
    if run.scaler.is_enabled():
        values["train/scaler"] = run.scaler.get_scale()
    values["speed/samples a second"] = steps_a_second * run.step_size
    values["speed/waiting for data"] = waiting
    values["memory/peak MiB"] = memory_peak(world.device)
    run.curves.add(run.steps, values)
    meter.note = f"loss {values['train/loss']:.4g}  rate {rate:.3g}  {values['speed/samples a second']:.1f} samples/s"


def _mean_loss(run: Run, epoch: int) -> float:
    """Of the epoch's accepted steps, in all processes."""
    total, count = run.world.all_reduce(run.sums.epoch.clone()).tolist()
    if run.dropped:
        steps = run.dropped + round(count / run.world.size)
        run.log.info(f"epoch {epoch + 1}: {run.dropped} of {steps} steps dropped, their loss was not finite{_limit(run)}")
    if not count:
        raise UserError(f"epoch {epoch + 1}: every step's loss was not finite{_limit(run)}; lower train.learning_rate")
    run.dropped, run.sums.epoch = 0, torch.zeros_like(run.sums.epoch)
    return total / count


def _finish_epoch(run: Run, epoch: int, train_loss: float, val_loader: DataLoader) -> None:
    """Validate, keep the epoch's checkpoints, and log it."""
    settings = run.config.train
    figures = {"training loss": train_loss, "validation loss": validate(run, val_loader, epoch)}
    ema = run.averages.get("ema")
    if ema is not None:
        figures["validation loss of the EMA"] = validate(run, val_loader, epoch, ema.module)
    if settings.evaluate_every and (epoch + 1) % settings.evaluate_every == 0:
        figures["AP"] = find_people(run, epoch)["AP"]
        if ema is not None:
            figures["AP of the EMA"] = find_people(run, epoch, ema.module)["AP"]
    best = figures["validation loss"] < run.best  # never for NaN
    run.epoch, run.taken, run.best = epoch + 1, 0, figures["validation loss"] if best else run.best
    content = checkpoint_content(run)
    if run.world.is_main:  # before the last checkpoint says that the epoch is done: whoever is killed in between does it again
        if best:
            save_checkpoint(run.output / BEST, **content)
        if ema is not None:
            save_average(run, "ema")
        run.curves.add(run.steps, {"epoch/number": epoch + 1, **{f"epoch/{name}": value for name, value in figures.items()}})
        run.curves.flush()
    keep(run, content)
    listed = ", ".join(f"{name} {value:.5g}" for name, value in figures.items())
    run.log.info(f"epoch {epoch + 1}: {listed}{' (best)' * best}")
    run.world.barrier()


def _finish_average(run: Run, train_loader: DataLoader, val_loader: DataLoader) -> None:
    """The mean of the cycles' weights, with batch-norm statistics taken anew over the training samples, validated and kept."""
    average = run.averages["swa"].module
    train_mode(average, average)
    device, dtype = run.world.device, run.world.unwrap(run.step).dtype
    refresh_statistics(average, (images_on(device, pixels, run.config).to(dtype) for pixels, *_ in train_loader), run.world)
    loss = validate(run, val_loader, run.epoch, average)
    if run.world.is_main:
        save_average(run, "swa")
    cycles = int(run.averages["swa"].n_averaged)
    run.log.info(f"{run.output / AVERAGES['swa']}: the mean of {cycles} cycles' weights, validation loss {loss:.5g}")


def save_average(run: Run, name: str) -> None:
    """Averaged weights as a checkpoint of their own."""
    weights, config = run.averages[name].module.state_dict(), run.config.model_dump(mode="json")
    save_checkpoint(run.output / AVERAGES[name], weights=weights, epoch=run.epoch, config=config)


@contextmanager
def _ended_in_words(run: Run) -> Iterator[None]:
    """What ends the training before its end is told in one line."""
    try:
        yield
    except (KeyboardInterrupt, RuntimeError, UserError) as error:
        # Where another process was interrupted first, this one may see only that its connection is gone.
        if isinstance(error, KeyboardInterrupt) or run.interrupts.asked:
            kept = "nothing is kept yet" if run.kept is None else f"all up to step {run.kept} of the run is kept"
            raise KeyboardInterrupt(
                f"interrupted in epoch {run.epoch + 1}; {kept}, go on with --resume auto --output {run.output}"
            ) from None
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError(f"the memory of {run.world.device} is used up; lower train.batch_size or data.input_size") from error
        if run.world.size > 1 and isinstance(error, RuntimeError) and re.search("onnection|NCCL|gloo", str(error)):
            raise UserError("another process has ended, and says why; the run goes on with --resume auto") from error
        raise
    finally:
        if run.curves is not None:
            run.curves.close()
