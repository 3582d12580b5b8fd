"""What training holds on to between steps, what of it a checkpoint keeps, and how a run goes on from one."""

from __future__ import annotations

import logging
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from config import Config, UserError
from config.load import changed_keys, parse_config
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext
from utils.training.curves import Curves
from utils.training.frozen import frozen_names
from utils.training.interrupts import Interrupts
from utils.training.randomness import random_states, restore_random_states
from utils.training.run_folder import keep_last

NEEDED = {"optimizer", "scaler", "epoch", "best", "config"}  # what a checkpoint of a training holds


@dataclass
class Dropped:
    """A step that was dropped: its epoch, counted from 0, the samples of the epoch before it, and the processes with a bad loss."""

    epoch: int
    taken: int
    ranks: list[int]


class LossSums:
    """This process's sums over accepted steps, on the device: read back now and then, so that no step waits for them."""

    def __init__(self, device: torch.device):
        self.epoch = torch.zeros(2, device=device, dtype=torch.float64)  # the losses, their number
        self.parts = torch.zeros((), device=device, dtype=torch.float64)  # the losses' parts since the last point of the curves ...
        self.count = 0  # ... of so many steps

    def add(self, parts: Tensor) -> None:
        """parts: of one step's loss."""
        parts = parts.detach().double()
        self.epoch += torch.stack([parts.sum(), parts.new_ones(())])
        self.parts = self.parts + parts
        self.count += 1

    def state(self, world: DistributedContext) -> dict[str, Tensor]:
        """The sums of all processes, by rank."""
        own = {"epoch": self.epoch, "parts": self.parts, "count": torch.tensor(self.count)}
        return {name: torch.cat(world.all_gather(value[None])) for name, value in own.items()}

    def load(self, state: dict[str, Tensor], world: DistributedContext) -> None:
        """What `state` gave; where there were other processes, the first one takes all of it."""
        if len(state["count"]) != world.size:
            state = {name: torch.stack([rows.sum(0), *[torch.zeros_like(rows[0])] * (world.size - 1)]) for name, rows in state.items()}
        device, rank = self.epoch.device, world.rank
        self.epoch, self.parts = state["epoch"][rank].to(device), state["parts"][rank].to(device)
        self.count = int(state["count"][rank])


@dataclass
class Run:
    """A training in progress."""

    config: Config
    output: Path
    world: DistributedContext
    network: nn.Module  # bare
    step: nn.Module  # network and loss, spread over the devices
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    log: logging.Logger
    curves: Curves | None
    averages: dict[str, AveragedModel] = field(default_factory=dict)  # of the weights, by name: see `build_averages`
    epoch: int = 0  # whole epochs
    taken: int = 0  # samples of the running epoch, in all processes together
    steps: int = 0  # optimizer steps of the whole run
    kept: int | None = None  # steps when the last checkpoint was written
    best: float = float("inf")  # lowest validation loss
    dropped: int = 0  # steps of the running epoch without effect
    dropped_in_row: list[Dropped] = field(default_factory=list)
    interrupts: Interrupts = field(default_factory=Interrupts)

    def __post_init__(self) -> None:
        self.sums = LossSums(self.world.device)

    @property
    def step_size(self) -> int:
        """Samples of one optimizer step, in all processes together."""
        return self.config.train.batch_size * self.config.train.accumulate * self.world.size


def keep(run: Run, content: dict[str, Any]) -> None:
    """Write the run's last checkpoint, of what `checkpoint_content` has just given; all processes together, at the same step."""
    if run.world.is_main:
        keep_last(run.output, content)
    run.kept = run.steps


def checkpoint_content(run: Run) -> dict[str, Any]:
    """What a checkpoint keeps; for all processes together."""
    return {
        "weights": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "averages": {name: average.state_dict() for name, average in run.averages.items()},
        "epoch": run.epoch,
        "taken": run.taken,
        "steps": run.steps,
        "best": run.best,
        "sums": run.sums.state(run.world),
        "dropped": [run.dropped, [vars(dropped) for dropped in run.dropped_in_row]],
        "random": random_states(run.world),
        "config": run.config.model_dump(mode="json"),
    }


def resume(run: Run, path: Path) -> list[str]:
    """Take over a checkpoint's training state, all but the weights. Returns what the log should say about it."""
    content = read_checkpoint(path)
    if not set(content) >= NEEDED:
        raise UserError(f"checkpoint {path}: has weights but no training state; start from it with --init instead of --resume")
    # As this version stores it: keys that came or went since are no change of the user's
    trained = parse_config(content["config"], f"configuration in {path}").model_dump(mode="json")
    optimizer = trained["train"]["optimizer"]
    if optimizer != run.config.train.optimizer:
        raise UserError(f"checkpoint {path}: was trained with train.optimizer={optimizer}; take only its weights with --init")
    frozen = trained["train"]["freeze"]  # the optimizer's moments have no names: other parameters would take them for theirs
    if frozen_names(run.network, frozen) != frozen_names(run.network, run.config.train.freeze):
        raise UserError(f"checkpoint {path}: was trained with train.freeze={frozen}; take only its weights with --init")
    told = _take_over(run, content, path)
    changed = changed_keys(trained, run.config.model_dump(mode="json"))
    if changed:
        listed = "; ".join(f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changed.items())
        told.append(f"{path}: was trained with another configuration: {listed}")
    if any(f"{key}.".startswith(f"{part}.") for key in changed for part in run.config.validation_keys):
        run.best = float("inf")
        told.append("the validation loss is another one than before: the best checkpoint is chosen anew")
    return told


def _take_over(run: Run, content: dict[str, Any], path: Path) -> list[str]:
    """Fill the run; what a checkpoint of an earlier version lacks stays as at the start of an epoch."""
    configured = [{key: value for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(content["optimizer"])
    for group, values in zip(run.optimizer.param_groups, configured):
        group.update(values)  # the configuration in force counts, not the one that the checkpoint was trained with
    if content["scaler"]:  # empty where the checkpoint was trained in another precision
        run.scaler.load_state_dict(content["scaler"])
    run.epoch, run.best = content["epoch"], content["best"]
    told = [f"{path}: going on after epoch {run.epoch}"]
    if "steps" not in content:
        return told
    run.taken, run.steps, run.kept = content["taken"], content["steps"], content["steps"]
    for name in run.averages.keys() & content["averages"].keys():
        run.averages[name].load_state_dict(content["averages"][name])
    run.sums.load(content["sums"], run.world)
    run.dropped, in_row = content["dropped"]
    run.dropped_in_row = [Dropped(**dropped) for dropped in in_row]
    restore_random_states(content["random"], run.world)
    if run.taken:
        told[0] += f" and {run.taken} samples of the next"
    if len(content["random"]) != run.world.size:
        run.dropped_in_row.clear()  # their samples can no longer be told
        told.append(f"{len(content['random'])} processes before, {run.world.size} now: the same samples in new shares")
    return told


def check_agreement(run: Run) -> None:
    """Raise UserError where the processes would go on from different places."""
    places = run.world.all_gather(torch.tensor([[run.epoch, run.taken, run.steps]]))
    if any(not torch.equal(place, places[0]) for place in places):
        raise UserError(f"output folder {run.output}: not every machine sees the same checkpoint in it; all of them must share it")


def _short(value: object) -> str:
    """A configuration's value on part of a line: paths whole, the lists of a skeleton not."""
    return value if isinstance(value, str) else reprlib.repr(value)
