"""The training: epochs of steps, with a validation and checkpoints after each."""

import math
import re
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from traceback import clear_frames
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from config import Config, UserError
from config.files import file_lock, output_folder
from config.progress import Progress
from config.signals import StopSignal
from utils.checkpoint import save_checkpoint
from utils.distributed import DistributedContext
from utils.training.build import build_state, find_checkpoint, open_run_dir
from utils.training.data import MORE_SHARED_MEMORY, SHARED_MEMORY, build_loaders, shutdown_workers
from utils.training.logging import StepTimer, loss_metrics, peak_memory, tag
from utils.training.optimizer import cycle_ends, learning_rate, set_train_mode, update_bn
from utils.training.state import BEST, TrainState
from utils.training.step import BatchNormBackup, StepCheck, images_to_device, to_device
from utils.training.validation import validate, validation_ap

SHOWN = 20  # images in a message
SHOWN_TEXT = 300  # characters of another message in a message


def train(
    config: Config,
    output: Path,
    context: DistributedContext,
    resume: str | None = None,
    init: Path | None = None,
    stop: StopSignal | None = None,
) -> None:
    """Train from `config`. All results appear in the folder `output`.

    resume: a checkpoint, or "auto". init: initial weights.
    """
    train_loader, val_loader = build_loaders(config, context)
    checkpoint, messages = find_checkpoint(output, resume)
    state, more = build_state(config, output, context, init, checkpoint)
    state.stop = stop or state.stop
    with file_lock(output_folder(output)) if context.is_main else nullcontext():
        open_run_dir(state, messages + more)
        with readable_errors(state), shutdown_workers(train_loader):
            train_epochs(state, train_loader, val_loader)


def train_epochs(state: TrainState, train_loader: DataLoader, val_loader: DataLoader) -> None:
    """Train and validate the remaining epochs."""
    settings, context, start = state.config.train, state.context, state.epoch
    todo = f"epochs {start + 1} to {settings.epochs}" if start < settings.epochs else f"all {settings.epochs} epochs are done"
    state.log.info(
        f"{state.output}: {sum(p.numel() for p in state.network.parameters()):,} parameters, {len(train_loader.dataset)} training and"
        f" {len(val_loader.dataset)} validation samples, {context.size} x batch {settings.batch_size} on {context.device}, {todo}"
    )
    for epoch in range(start, settings.epochs):
        if settings.patience is not None and epoch - state.best_epoch >= settings.patience:
            state.log.info(
                f"train.patience: no better validation {settings.best} for {epoch - state.best_epoch} epochs, since epoch"
                f" {state.best_epoch}; the run ends; to continue it, raise train.patience and --resume auto"
            )
            break
        train_loader.batch_sampler.set_epoch(epoch, state.samples_seen)
        train_loss = train_one_epoch(state, train_loader, epoch)
        if cycle_ends(epoch, settings.swa):
            state.averages["swa"].update_parameters(state.network)
        finish_epoch(state, epoch, train_loss, val_loader)
    if "swa" in state.averages and state.averages["swa"].n_averaged:
        train_loader.batch_sampler.set_epoch(settings.epochs)  # the same samples, wherever an interrupted run resumes
        finish_swa(state, train_loader, val_loader)


def train_one_epoch(state: TrainState, loader: DataLoader, epoch: int) -> float:
    """Train on the remaining samples of an epoch. Return the mean loss of the epoch's steps that were not skipped."""
    settings, context = state.config.train, state.context
    set_train_mode(state.step, state.network)
    batch_norms, timer, note = BatchNormBackup(state.network), StepTimer(), ""
    done = state.samples_seen / state.samples_per_step  # steps; a whole number unless the number of ranks has changed
    total = done + len(loader) // settings.accumulate
    with Progress(round(total), f"epoch {epoch + 1}/{settings.epochs}", "step", context.is_main) as progress:
        progress.skip(round(done))
        for i, batches in enumerate(timer.timed(group_batches(loader, settings.accumulate)), start=1):
            lr = learning_rate(epoch, done + i - 1, total, settings, context.size, state.skipped_before + state.skipped)
            for group in state.optimizer.param_groups:
                group["lr"] = lr
            batch_norms.save()
            with compilation_logged(state):
                terms, check = forward_backward(state, batches)
            bad_ranks, stop = check.result()  # the device is busy with the backward pass meanwhile
            last = done + i == total
            log = last or (state.steps + 1) % settings.log_every == 0
            grad_norm, updated = None, False
            if bad_ranks:
                batch_norms.restore()
            else:
                grad_norm, updated = update_weights(state, measure_norm=log)
            if updated:
                state.sums.add(terms)
            state.optimizer.zero_grad(set_to_none=True)
            state.count_step(epoch, updated, bad_ranks)
            if not updated:
                check_skipped(state, loader, epoch)
            if log:
                note = log_step(state, lr, grad_norm, timer) or note
            progress.advance(note=note)
            every = settings.checkpoint_every
            if stop or last or (every and (round(done) + i) % every == 0):  # after the last step too: validation can take long
                state.save_last(state.state_dict())
            if stop:
                raise KeyboardInterrupt
    return mean_loss(state, epoch)


def forward_backward(state: TrainState, batches: list[NamedTuple]) -> tuple[Tensor, StepCheck]:
    """Accumulate the gradient of the mean loss over a step's batches. Return the loss's terms, and whether the step is good."""
    settings, device = state.config.train, state.context.device
    losses, total = [], torch.zeros((), device=device)
    for n, batch in enumerate(batches, start=1):
        images, targets = to_device(device, batch, state.config)
        last = n == len(batches)
        with nullcontext() if last or state.context.parallel != "distributed" else state.step.no_sync():  # ranks sum the gradient once
            terms = state.step(images, targets).sum(0) / len(images)
            loss = terms.sum()
            losses.append(loss.detach())
            total = total + terms.detach()
            if last:  # before the backward pass, which hides the time that the check takes
                check = StepCheck(torch.stack(losses), settings.max_loss, state.stop.requested, state.context)
            state.scaler.scale(loss / len(batches)).backward()
    return total / len(batches), check


@contextmanager
def compilation_logged(state: TrainState) -> Iterator[None]:
    """Log that the first step of this process compiles network and loss, where it does, and how long it took."""
    compiles = state.context.compiles(state.config.train) and not state.has_stepped
    state.has_stepped, start = True, time.perf_counter()
    if compiles:
        state.log.info("train.compile: compiling network and loss in the first step, which can take minutes")
    yield
    if compiles:
        state.log.info(f"train.compile: the first step took {time.perf_counter() - start:.1f} s")


def update_weights(state: TrainState, measure_norm: bool) -> tuple[Tensor | None, bool]:
    """Take an optimizer step.

    Return the gradient's norm before clipping, where it is clipped or measured, and whether the weights were updated: float16's scaler
    skips the step where the gradient is not finite.
    """
    clip, norm = state.config.train.clip_norm, None
    if clip is not None or measure_norm:
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in state.network.parameters() if p.grad is not None])
    if clip is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), clip, norm)
    scale = state.scaler.get_scale()  # read from the device; without a scaler a constant
    state.scaler.step(state.optimizer)
    state.scaler.update()
    updated = state.scaler.get_scale() >= scale
    if updated and "ema" in state.averages:
        state.averages["ema"].update_parameters(state.network)
    return norm, updated


def group_batches(loader: Iterable[NamedTuple], accumulate: int) -> Iterator[list[NamedTuple]]:
    """Yield the batches of each optimizer step."""
    batches = iter(loader)
    while len(group := list(islice(batches, accumulate))) == accumulate:
        yield group


def log_step(state: TrainState, lr: float, grad_norm: Tensor | None, timer: StepTimer) -> str:
    """Log the metrics since the last call and return a summary. Metrics are read from the device only here. All ranks call it together."""
    sums, context = state.sums, state.context
    steps_per_second, wait_fraction = timer.read()
    count = int(context.all_reduce(torch.tensor(sums.count, device=context.device)))
    terms = context.all_reduce(sums.terms)
    sums.terms, sums.count = torch.zeros_like(sums.epoch[0]), 0
    if state.metrics is None:
        return ""
    metrics = loss_metrics(context.unwrap(state.step).loss, terms / count) if count else {}  # else all steps were skipped
    metrics |= {"train/lr": lr, "train/skipped_steps": state.skipped}
    if grad_norm is not None:
        metrics["train/grad_norm"] = grad_norm.item()
    if state.scaler.is_enabled():
        metrics["train/grad_scale"] = state.scaler.get_scale()
    metrics["speed/samples_per_second"] = steps_per_second * state.samples_per_step
    metrics["data/wait_fraction"] = wait_fraction
    metrics["memory/peak_mib"] = peak_memory(context.device)
    state.metrics.add(state.steps, metrics)
    loss = f"loss {metrics['train/loss']:.4g}  " if count else ""
    return f"{loss}lr {lr:.3g}  {metrics['speed/samples_per_second']:.1f} samples/s"


def mean_loss(state: TrainState, epoch: int) -> float:
    """Return the mean loss of the epoch's accepted steps, of all ranks; NaN where float16's scaler skipped them all."""
    total, count = state.context.all_reduce(state.sums.epoch.clone()).tolist()
    if state.skipped:
        steps = state.skipped + round(count / state.context.size)
        state.log.info(f"epoch {epoch + 1}: {state.skipped} of {steps} steps skipped, {_not_finite(state)}")
    if not count and not state.scaler.is_enabled():
        raise UserError(f"epoch {epoch + 1}: all steps were skipped, {_not_finite(state)}; lower train.learning_rate")
    state.skipped_before += state.skipped
    state.skipped, state.sums.epoch = 0, torch.zeros_like(state.sums.epoch)
    return total / count if count else math.nan


def check_skipped(state: TrainState, loader: DataLoader, epoch: int) -> None:
    """Raise UserError after `train.max_dropped` skipped steps in a row, with their images, or where float16 has no scale left to try."""
    scale = state.scaler.get_scale()
    if scale < 1:
        problem = f"the gradient is not finite in float16, even with a scale of {scale:g}"
        raise UserError(f"epoch {epoch + 1}: {problem}; choose train.precision=bfloat16 or float32, or lower train.learning_rate")
    if len(state.skipped_in_row) < state.config.train.max_dropped:
        return
    dataset: Any = loader.dataset
    sampler, images = loader.batch_sampler, dict[str, None]()
    for skipped in state.skipped_in_row:
        numbers = sampler.steps(skipped.epoch, skipped.taken)[0][:, skipped.ranks or slice(None)].ravel().tolist()
        images |= dict.fromkeys(map(dataset.image_id, numbers))
    listed = ", ".join(map(str, islice(images, SHOWN))) + f" and {len(images) - SHOWN} more" * (len(images) > SHOWN)
    skipped = f"epoch {epoch + 1}: {len(state.skipped_in_row)} steps in a row were skipped, {_not_finite(state)}"
    remedy = ", choose train.precision=bfloat16," if state.scaler.is_enabled() else ","
    raise UserError(f"{skipped}; lower train.learning_rate{remedy} or inspect their images: {listed}")


def _not_finite(state: TrainState) -> str:
    limit = state.config.train.max_loss
    gradient = ", or their gradient was not finite in float16" * state.scaler.is_enabled()
    return "their loss was not finite" + ("" if limit is None else f" or over {limit:g} (train.max_loss)") + gradient


def finish_epoch(state: TrainState, epoch: int, train_loss: float, val_loader: DataLoader) -> None:
    """Validate, save the epoch's checkpoints, and log."""
    settings, ema = state.config.train, state.averages.get("ema")
    networks = {"": None} | ({} if ema is None else {" of the EMA": ema.module})
    metrics = {"training loss": train_loss}
    metrics |= {f"validation loss{name}": validate(state, val_loader, epoch, network) for name, network in networks.items()}
    if settings.evaluate_every and (epoch + 1) % settings.evaluate_every == 0:
        metrics |= {f"AP{name}": validation_ap(state, epoch, network) for name, network in networks.items()}
    value = metrics["validation loss"] if settings.best == "loss" else -metrics.get("AP", -math.inf)
    best = value < state.best  # never for NaN
    state.epoch, state.samples_seen = epoch + 1, 0
    if best:
        state.best, state.best_epoch = value, state.epoch
    content = state.state_dict()
    if state.context.is_main:  # before the last checkpoint says that the epoch is done: a run killed in between repeats this
        if best:
            save_checkpoint(state.output / BEST, **content)
        if ema is not None:
            state.save_average("ema")
        state.metrics.add(state.steps, {"epoch/number": epoch + 1, **{f"epoch/{tag(name)}": value for name, value in metrics.items()}})
        state.metrics.draw_curves()
    state.save_last(content)
    listed = ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())
    state.log.info(f"epoch {epoch + 1}: {listed}{' (best)' * best}")
    state.context.barrier()


def finish_swa(state: TrainState, train_loader: DataLoader, val_loader: DataLoader) -> None:
    """Recompute the averaged network's batch-norm statistics over the training samples, validate and save it."""
    average, config, device = state.averages["swa"].module, state.config, state.context.device
    set_train_mode(average, average)
    dtype = state.context.unwrap(state.step).dtype
    update_bn(average, (images_to_device(device, batch.image, config).to(dtype) for batch in train_loader), state.context)
    loss = validate(state, val_loader, state.epoch, average)
    if state.context.is_main:
        state.save_average("swa")
    cycles = int(state.averages["swa"].n_averaged)
    state.log.info(f"{state.output / 'swa.pth'}: the mean of {cycles} cycles' weights, validation loss {loss:.5g}")


@contextmanager
def readable_errors(state: TrainState) -> Iterator[None]:
    """Turn an error that ends the training into one readable line, and close the metrics."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError, UserError) as error:
        clear_frames(error.__traceback__)  # they refer to a validation's loader: its workers would outlive it
        # Where another rank was interrupted first, this one may see only that its connection is gone
        if isinstance(error, KeyboardInterrupt) or state.stop.requested:
            where = f"interrupted in epoch {state.epoch + 1}, after step {state.steps} of the run"
            raise KeyboardInterrupt(f"{where}; resume with --resume auto --output {state.output}") from None
        text, is_runtime_error = str(error), isinstance(error, RuntimeError)
        if isinstance(error, torch.OutOfMemoryError):
            message = f"the memory of {state.context.device} is used up; lower train.batch_size or data.input_size"
        elif "in DataLoader worker process" in text and not is_runtime_error:  # PyTorch has added a traceback
            message = text.strip().splitlines()[-1].removeprefix(f"{UserError.__module__}.UserError: ")
        elif is_runtime_error and re.search("Bus error|No space left", text):  # of a worker
            message = f"shared memory {SHARED_MEMORY}: is used up; {MORE_SHARED_MEMORY}"
        elif "DataLoader worker (pid" in text:
            message = "a loader process was killed, perhaps for lack of memory; lower data.workers"
        elif state.context.size > 1 and is_runtime_error and re.search("onnection|NCCL|gloo", text):
            cause = textwrap.shorten(text, SHOWN_TEXT)
            message = f"{cause}; if another process has ended with an error, that one is the cause; resume with --resume auto"
        else:
            raise
        raise UserError(message) from error
    finally:
        if state.metrics is not None:
            state.metrics.close()
