"""What training holds on to between epochs, what of it a checkpoint keeps, and how a run goes on from one."""

from __future__ import annotations

import logging
import reprlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from config import Config, UserError
from config.load import changed_keys, parse_config
from utils.checkpoint import read_checkpoint
from utils.training.distributed import World
from utils.training.frozen import frozen_names
from utils.training.interrupts import Interrupts


@dataclass
class Run:
    """A training in progress."""

    config: Config
    output: Path
    world: World
    network: nn.Module  # bare
    step: nn.Module  # network and loss, spread over the devices
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    log: logging.Logger
    board: SummaryWriter | None
    epoch: int = 0
    best: float = float("inf")  # lowest validation loss
    averaged: dict[str, Tensor] = field(default_factory=dict)  # stochastic weight averaging: the mean so far ...
    averages: int = 0  # ... of so many
    interrupts: Interrupts = field(default_factory=Interrupts)


def checkpoint_content(run: Run) -> dict[str, object]:
    """What a checkpoint keeps."""
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


def resume(run: Run, path: Path) -> list[str]:
    """Take over a checkpoint's training state, all but the weights. Returns what the log should say about it."""
    content = read_checkpoint(path)
    if not {"optimizer", "scaler", "epoch", "best", "averaged", "averages", "config"} <= set(content):
        raise UserError(f"checkpoint {path}: has weights but no training state; start from it with --init instead of --resume")
    # As this version stores it: keys that came or went since are no change of the user's
    trained = parse_config(content["config"], f"configuration in {path}").model_dump(mode="json")
    optimizer = trained["train"]["optimizer"]
    if optimizer != run.config.train.optimizer:
        raise UserError(f"checkpoint {path}: was trained with train.optimizer={optimizer}; take only its weights with --init")
    frozen = trained["train"]["freeze"]  # the optimizer's moments have no names: other parameters would take them for theirs
    if frozen_names(run.network, frozen) != frozen_names(run.network, run.config.train.freeze):
        raise UserError(f"checkpoint {path}: was trained with train.freeze={frozen}; take only its weights with --init")
    configured = [{key: value for key, value in group.items() if key != "params"} for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(content["optimizer"])
    for group, values in zip(run.optimizer.param_groups, configured):
        group.update(values)  # the configuration in force counts, not the one that the checkpoint was trained with
    if content["scaler"]:  # empty where the checkpoint was trained in another precision
        run.scaler.load_state_dict(content["scaler"])
    run.epoch, run.best = content["epoch"], content["best"]
    run.averaged, run.averages = content["averaged"], content["averages"]
    told = [f"{path}: going on after epoch {run.epoch}"]
    changed = changed_keys(trained, run.config.model_dump(mode="json"))
    if changed:
        listed = "; ".join(f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changed.items())
        told.append(f"{path}: was trained with another configuration: {listed}")
    if any(f"{key}.".startswith(f"{part}.") for key in changed for part in run.config.validation_keys):
        run.best = float("inf")
        told.append("the validation loss is another one than before: the best checkpoint is chosen anew")
    return told


def _short(value: object) -> str:
    """A configuration's value on part of a line: paths whole, the lists of a skeleton not."""
    return value if isinstance(value, str) else reprlib.repr(value)
