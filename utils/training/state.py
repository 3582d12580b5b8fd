"""The state of a run between steps, and how it is saved in and restored from a checkpoint."""

from __future__ import annotations

import logging
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from config import Config, UserError
from config.load import changed_keys, parse_config
from config.signals import StopSignal
from utils.checkpoint import save_checkpoint
from utils.device import precise_dtype
from utils.distributed import DistributedContext
from utils.training.logging import MetricsLogger
from utils.training.optimizer import frozen_names

LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"
REQUIRED = {"optimizer", "scaler", "averages", "epoch", "taken", "steps", "best", "sums", "dropped", "random", "config"}  # to resume from


class SkippedStep(NamedTuple):
    """A step without effect: its epoch, counted from 0, the samples of the epoch before it, and the ranks with a bad loss.

    Without such ranks float16's scaler skipped it: the sum of the gradients was not finite.
    """

    epoch: int
    taken: int
    ranks: list[int]


class LossSums:
    """This rank's sums over accepted steps, on the device; they are read now and then, so that no step waits for them."""

    def __init__(self, device: torch.device):
        self.dtype = precise_dtype(device)
        self.epoch = torch.zeros(2, device=device, dtype=self.dtype)  # of the epoch: losses, number of steps
        self.terms = torch.zeros((), device=device, dtype=self.dtype)  # loss terms since the last logged step ...
        self.count = 0  # ... and their number of steps

    def add(self, terms: Tensor) -> None:
        """terms: of one step's loss."""
        terms = terms.detach().to(self.dtype)
        self.epoch += torch.stack([terms.sum(), terms.new_ones(())])
        self.terms = self.terms + terms
        self.count += 1

    def state_dict(self, context: DistributedContext) -> dict[str, Tensor]:
        """Return the sums of all ranks, by rank."""
        own = {"epoch": self.epoch.cpu(), "parts": self.terms.cpu(), "count": torch.tensor(self.count)}
        of_ranks = context.all_gather(own)
        return {name: torch.stack([sums[name] for sums in of_ranks]) for name in own}

    def load_state_dict(self, content: dict[str, Tensor], context: DistributedContext) -> None:
        """Restore this rank's sums, and those of further ranks where there were more."""
        own = {name: of_ranks[context.rank :: context.size].sum(0) for name, of_ranks in content.items()}
        self.epoch, self.terms = (own[name].to(context.device, self.dtype) for name in ("epoch", "parts"))
        self.count = int(own["count"])


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
    best: float = float("inf")  # lowest validation loss; with train.best=AP the highest AP, negative
    best_epoch: int = 0  # finished epochs when it was found
    has_stepped: bool = False  # in this process
    skipped: int = 0  # steps of the running epoch
    skipped_before: int = 0  # steps of the epochs before
    skipped_in_row: list[SkippedStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sums = LossSums(self.context.device)

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step, on all ranks together."""
        return self.config.train.batch_size * self.config.train.accumulate * self.context.size

    def count_step(self, epoch: int, updated: bool, bad_ranks: list[int]) -> None:
        """Count a step. updated: it was not skipped. bad_ranks: the ranks with a bad loss, where it was skipped for that."""
        self.skipped += not updated
        if updated:
            self.skipped_in_row.clear()
        elif bad_ranks or epoch:  # in the first epoch float16's scaler is looking for its scale
            self.skipped_in_row.append(SkippedStep(epoch, self.samples_seen, bad_ranks))
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
            "best_epoch": self.best_epoch,
            "sums": self.sums.state_dict(self.context),
            "dropped": [self.skipped, [skipped._asdict() for skipped in self.skipped_in_row], self.skipped_before],
            "random": self.context.all_gather(_random_state(self.context.device)),
            "config": self.config.model_dump(mode="json"),
        }

    def load_state_dict(self, content: dict[str, Any], path: Path) -> list[str]:
        """Restore a checkpoint, except its weights. Return messages for the log. Raises UserError where it does not fit."""
        if not content.keys() >= REQUIRED:
            raise UserError(f"checkpoint {path}: has weights but no training state; start from it with --init instead of --resume")
        # As this version stores it: keys that came or went since are no change of the user's
        config, trained = (
            self.config.model_dump(mode="json"),
            parse_config(content["config"], f"configuration in {path}").model_dump(mode="json"),
        )
        frozen, of_checkpoint = (frozen_names(self.network, values["train"]["freeze"]) for values in (config, trained))
        same_optimizer = trained["train"]["optimizer"] == self.config.train.optimizer
        for key, fits in (("optimizer", same_optimizer), ("freeze", frozen == of_checkpoint)):  # the optimizer's state has no names
            if not fits:
                raise UserError(
                    f"checkpoint {path}: was trained with train.{key}={trained['train'][key]}; take only its weights with --init"
                )
        messages = self._load_progress(content, path)
        changed = changed_keys(trained, config)
        if changed:
            listed = "; ".join(f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changed.items())
            messages.append(f"{path}: was trained with another configuration: {listed}")
        of_best = (*self.config.loss_comparability_keys, "train.best", *["inference"] * (self.config.train.best == "AP"))
        if any(f"{key}.".startswith(f"{part}.") for key in changed for part in of_best):
            self.best, self.best_epoch = float("inf"), self.epoch
            messages.append("the validation metrics are no longer comparable: the best checkpoint starts anew")
        return messages

    def _load_progress(self, content: dict[str, Any], path: Path) -> list[str]:
        """Restore optimizer, averages, counters, sums and random states."""
        saved, own = content["optimizer"], self.optimizer.state_dict()
        groups = [theirs | ours for theirs, ours in zip(saved["param_groups"], own["param_groups"])]  # this run's configuration counts
        self.optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
        if content["scaler"]:  # empty where the checkpoint was trained in another precision
            self.scaler.load_state_dict(content["scaler"])
        for name in self.averages.keys() & content["averages"].keys():
            self.averages[name].load_state_dict(content["averages"][name])
        self.epoch, self.samples_seen, self.steps, self.best = (content[key] for key in ("epoch", "taken", "steps", "best"))
        self.best_epoch = content.get("best_epoch", self.epoch)  # an older checkpoint has none
        self.sums.load_state_dict(content["sums"], self.context)
        self.skipped, in_row, *before = content["dropped"]
        self.skipped_before = sum(before)  # an older checkpoint has none
        of_next = f" and {self.samples_seen} samples of the next" * bool(self.samples_seen)
        messages, ranks = [f"{path}: resuming after epoch {self.epoch}{of_next}"], len(content["random"])
        if ranks == self.context.size:
            self.skipped_in_row = [SkippedStep(**skipped) for skipped in in_row]
            states = content["random"][self.context.rank]  # an older checkpoint also holds those of NumPy and Python
            torch.set_rng_state(states["torch"])
            if "cuda" in states and self.context.device.type == "cuda":
                torch.cuda.set_rng_state(states["cuda"], self.context.device)
        else:  # which ranks had the skipped steps' samples is unknown now
            messages.append(f"{ranks} processes before, {self.context.size} now: the remaining samples are divided anew")
        return messages

    def check_same_on_all_ranks(self) -> None:
        """Raise UserError where ranks would resume from different checkpoints."""
        if len(set(self.context.all_gather((self.epoch, self.samples_seen, self.steps)))) > 1:
            raise UserError(f"output folder {self.output}: not every machine sees the same checkpoint in it; all of them must share it")

    def save_last(self, content: dict[str, Any]) -> None:
        """Write the last checkpoint, of what `state_dict` has just returned."""
        if self.context.is_main:
            rotate_checkpoints(self.output, content)

    def save_average(self, name: str) -> None:
        """Write averaged weights as a checkpoint of their own."""
        weights, config = self.averages[name].module.state_dict(), self.config.model_dump(mode="json")
        save_checkpoint(self.output / f"{name}.pth", weights=weights, epoch=self.epoch, config=config)


def rotate_checkpoints(folder: Path, content: dict[str, Any]) -> None:
    """Write the last checkpoint. The former one becomes the previous one only when the new one is complete."""
    fresh, last = folder / "next.pth", folder / LAST
    save_checkpoint(fresh, **content)
    if last.exists():
        last.replace(folder / PREVIOUS)  # a run that is killed here resumes from it
    fresh.replace(last)


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of this rank's global generators in PyTorch, from which a dropout draws.

    Samples and their order draw from generators of their own, which follow from seed, epoch and sample.
    """
    return {"torch": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _short(value: object) -> str:
    """Return a configuration value as short text: paths whole, the lists of a skeleton abbreviated."""
    return value if isinstance(value, str) else reprlib.repr(value)
