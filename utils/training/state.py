"""The state of a run between steps, and how it is saved in and restored from a checkpoint."""

from __future__ import annotations

import logging
import os
import reprlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from config import Config, UserError
from config.load import changed_keys, parse_config
from utils.checkpoint import save_checkpoint
from utils.distributed import DistributedContext
from utils.training.logging import MetricsLogger
from utils.training.optimizer import frozen_names

LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"
AVERAGES = {"ema": "ema.pth", "swa": "swa.pth"}
REQUIRED = {"optimizer", "scaler", "epoch", "best", "config"}  # keys of a checkpoint to resume from


class StopSignal:
    """A context in which Ctrl-C and a scheduler's SIGTERM raise KeyboardInterrupt, and neither is lost.

    Python drops what is raised while it deletes an object, such as a loader at the end of an epoch. So the signal is noted here, too, and
    `check`, called now and then, raises it again.
    """

    def __init__(self) -> None:
        self.requested = self._deferring = False

    def check(self) -> None:
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note the first signal: the caller looks at `requested` where it can save its work. A second Ctrl-C raises."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def __enter__(self) -> StopSignal:
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        if not self.requested:
            sys.unraisablehook = self._hook
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        first, self.requested = not self.requested, True
        # torchrun passes the terminal's Ctrl-C on as a SIGTERM, which is not a second request
        if not self._deferring or (number == signal.SIGINT and not first):
            raise KeyboardInterrupt

    def _unraisable(self, unraisable: object) -> None:
        if not self.requested:  # half-built objects complain when they are deleted, after the last message
            self._hook(unraisable)


class SkippedStep(NamedTuple):
    """A step without effect: its epoch, counted from 0, the samples of the epoch before it, and the ranks with a bad loss."""

    epoch: int
    taken: int
    ranks: list[int]


class LossSums:
    """This rank's sums over accepted steps, on the device; they are read now and then, so that no step waits for them."""

    def __init__(self, device: torch.device):
        self.epoch = torch.zeros(2, device=device, dtype=torch.float64)  # of the epoch: losses, number of steps
        self.terms = torch.zeros((), device=device, dtype=torch.float64)  # loss terms since the last logged step ...
        self.count = 0  # ... and their number of steps

    def add(self, terms: Tensor) -> None:
        """terms: of one step's loss."""
        terms = terms.detach().double()
        self.epoch += torch.stack([terms.sum(), terms.new_ones(())])
        self.terms = self.terms + terms
        self.count += 1

    def state_dict(self, context: DistributedContext) -> dict[str, Tensor]:
        """Return the sums of all ranks, by rank."""
        own = {"epoch": self.epoch.cpu(), "parts": self.terms.cpu(), "count": torch.tensor(self.count)}
        of_ranks = context.all_gather(own)
        return {name: torch.stack([sums[name] for sums in of_ranks]) for name in own}

    def load_state_dict(self, content: dict[str, Tensor], context: DistributedContext) -> None:
        """Restore the sums; where there was another number of ranks, rank 0 takes all of them."""
        if len(content["count"]) != context.size:
            content = {
                name: torch.stack([rows.sum(0), *[torch.zeros_like(rows[0])] * (context.size - 1)]) for name, rows in content.items()
            }
        device, rank = self.epoch.device, context.rank
        self.epoch, self.terms = content["epoch"][rank].to(device), content["parts"][rank].to(device)
        self.count = int(content["count"][rank])


@dataclass
class TrainState:
    """A training in progress."""

    config: Config
    output: Path
    context: DistributedContext
    network: nn.Module  # not wrapped
    step: nn.Module  # network and loss, wrapped for the devices
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    log: logging.Logger
    averages: dict[str, AveragedModel] = field(default_factory=dict)  # of the weights, by name: see `build_averages`
    metrics: MetricsLogger | None = None  # of rank 0
    stop: StopSignal = field(default_factory=StopSignal)
    epoch: int = 0  # finished epochs
    samples_seen: int = 0  # of the running epoch, on all ranks together
    steps: int = 0  # optimizer steps of the whole run
    last_saved_step: int | None = None
    best: float = float("inf")  # lowest validation loss
    skipped: int = 0  # steps of the running epoch
    skipped_in_row: list[SkippedStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = LossSums(self.context.device)

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step, on all ranks together."""
        return self.config.train.batch_size * self.config.train.accumulate * self.context.size

    def count_step(self, epoch: int, bad_ranks: list[int]) -> None:
        """Count a step. bad_ranks: those for whose losses it was skipped."""
        if bad_ranks:
            self.skipped += 1
            self.skipped_in_row.append(SkippedStep(epoch, self.samples_seen, bad_ranks))
        else:
            self.skipped_in_row.clear()
        self.samples_seen += self.samples_per_step
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds. All ranks call it together."""
        return {
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
            "epoch": self.epoch,
            "taken": self.samples_seen,
            "steps": self.steps,
            "best": self.best,
            "sums": self.sums.state_dict(self.context),
            "dropped": [self.skipped, [skipped._asdict() for skipped in self.skipped_in_row]],
            "random": _random_states(self.context),
            "config": self.config.model_dump(mode="json"),
        }

    def load_state_dict(self, content: dict[str, Any], path: Path) -> list[str]:
        """Restore a checkpoint, except its weights. Return messages for the log. Raises UserError where it does not fit."""
        if not set(content) >= REQUIRED:
            raise UserError(f"checkpoint {path}: has weights but no training state; start from it with --init instead of --resume")
        # As this version stores it: keys that came or went since are no change of the user's
        trained = parse_config(content["config"], f"configuration in {path}").model_dump(mode="json")
        optimizer = trained["train"]["optimizer"]
        if optimizer != self.config.train.optimizer:
            raise UserError(f"checkpoint {path}: was trained with train.optimizer={optimizer}; take only its weights with --init")
        frozen = trained["train"]["freeze"]  # the optimizer's state has no names: other parameters would take it
        if frozen_names(self.network, frozen) != frozen_names(self.network, self.config.train.freeze):
            raise UserError(f"checkpoint {path}: was trained with train.freeze={frozen}; take only its weights with --init")
        self._load_optimizer(content)
        messages = self._load_progress(content, path)
        changed = changed_keys(trained, self.config.model_dump(mode="json"))
        if changed:
            listed = "; ".join(f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changed.items())
            messages.append(f"{path}: was trained with another configuration: {listed}")
        if any(f"{key}.".startswith(f"{part}.") for key in changed for part in self.config.loss_comparability_keys):
            self.best = float("inf")
            messages.append("the validation loss is no longer comparable: the best checkpoint starts anew")
        return messages

    def _load_optimizer(self, content: dict[str, Any]) -> None:
        configured = [{key: value for key, value in group.items() if key != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(content["optimizer"])
        for group, values in zip(self.optimizer.param_groups, configured):
            group.update(values)  # this run's configuration counts, not the checkpoint's
        if content["scaler"]:  # empty where the checkpoint was trained in another precision
            self.scaler.load_state_dict(content["scaler"])

    def _load_progress(self, content: dict[str, Any], path: Path) -> list[str]:
        """Restore counters, averages, sums and random states. An early checkpoint that has none was saved at the end of an epoch."""
        self.epoch, self.best = content["epoch"], content["best"]
        messages = [f"{path}: resuming after epoch {self.epoch}"]
        if "steps" not in content:
            return messages
        self.samples_seen, self.steps, self.last_saved_step = content["taken"], content["steps"], content["steps"]
        for name in self.averages.keys() & content["averages"].keys():
            self.averages[name].load_state_dict(content["averages"][name])
        self.sums.load_state_dict(content["sums"], self.context)
        self.skipped, in_row = content["dropped"]
        if self.samples_seen:
            messages[0] += f" and {self.samples_seen} samples of the next"
        ranks = len(content["random"])
        if ranks == self.context.size:
            self.skipped_in_row = [SkippedStep(**skipped) for skipped in in_row]
            _restore_random_states(content["random"], self.context)
        else:  # which ranks had the skipped steps' samples is unknown now
            messages.append(f"{ranks} processes before, {self.context.size} now: the remaining samples are divided anew")
        return messages

    def check_same_on_all_ranks(self) -> None:
        """Raise UserError where ranks would resume from different checkpoints."""
        if len(set(self.context.all_gather((self.epoch, self.samples_seen, self.steps)))) > 1:
            raise UserError(f"output folder {self.output}: not every machine sees the same checkpoint in it; all of them must share it")

    def save_last(self, content: dict[str, Any]) -> None:
        """Write the last checkpoint, of what `state_dict` has just returned. All ranks call it together, at the same step."""
        if self.context.is_main:
            rotate_checkpoints(self.output, content)
        self.last_saved_step = self.steps

    def save_average(self, name: str) -> None:
        """Write averaged weights as a checkpoint of their own."""
        weights, config = self.averages[name].module.state_dict(), self.config.model_dump(mode="json")
        save_checkpoint(self.output / AVERAGES[name], weights=weights, epoch=self.epoch, config=config)


def rotate_checkpoints(folder: Path, content: dict[str, Any]) -> None:
    """Write the last checkpoint. The former one becomes the previous one only when the new one is complete."""
    fresh, last = folder / "next.pth", folder / LAST
    save_checkpoint(fresh, **content)
    if last.exists():
        spare = folder / ".previous.pth"
        spare.unlink(missing_ok=True)
        try:
            os.link(last, spare)  # at no moment is there no last.pth
            spare.replace(folder / PREVIOUS)
        except OSError:  # a file system without hard links
            last.replace(folder / PREVIOUS)
    fresh.replace(last)
    if hasattr(os, "O_DIRECTORY"):  # the new names are on the disk too
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _random_states(context: DistributedContext) -> list[dict[str, Tensor]]:
    """Return the states of PyTorch's global generators, from which a dropout draws, by rank.

    Samples and their order draw from generators of their own, which follow from seed, epoch and sample.
    """
    states = {"torch": torch.get_rng_state()}
    if context.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(context.device)
    return context.all_gather(states)


def _restore_random_states(states: list[dict[str, Tensor]], context: DistributedContext) -> None:
    """Older checkpoints also hold states of NumPy and Python, from which nothing draws."""
    own = states[context.rank]
    if ("cuda" in own) != (context.device.type == "cuda"):  # the run was on another kind of device
        return
    torch.set_rng_state(own["torch"])
    if "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], context.device)


def _short(value: object) -> str:
    """Return a configuration value as short text: paths whole, the lists of a skeleton abbreviated."""
    return value if isinstance(value, str) else reprlib.repr(value)
