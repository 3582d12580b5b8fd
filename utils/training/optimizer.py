"""Optimizers and the learning rate of every step (paper section 4.1)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from config import UserError
from config.schema import TrainConfig

APEX_INSTALL = (
    "APEX_CPP_EXT=1 APEX_CUDA_EXT=1 pip install --no-build-isolation git+https://github.com/NVIDIA/apex"
    " (PyPI's package 'apex' is another one)"
)


def build_optimizer(parameters: Iterable[nn.Parameter], settings: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that `train.optimizer` names. Raises UserError where NVIDIA Apex is asked for and not there."""
    s = settings
    fused = device.type in ("cuda", "cpu")  # one kernel for all tensors instead of several each
    if s.optimizer == "sgd":
        return torch.optim.SGD(parameters, s.learning_rate, s.momentum, weight_decay=s.weight_decay, fused=fused)
    if s.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if s.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, s.learning_rate, (s.momentum, 0.999), weight_decay=s.weight_decay, fused=fused)
    if device.type != "cuda":
        raise UserError(f"train.optimizer={s.optimizer}: NVIDIA Apex's fused optimizers need a GPU; use sgd, adam or adamw")
    if s.optimizer == "apex_sgd":
        return _apex("FusedSGD", parameters, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay)
    return _apex("FusedAdam", parameters, lr=s.learning_rate, betas=(s.momentum, 0.999), weight_decay=s.weight_decay)


def _apex(name: str, *arguments: Any, **settings: Any) -> torch.optim.Optimizer:
    try:
        return getattr(importlib.import_module("apex.optimizers"), name)(*arguments, **settings)
    except (ImportError, AttributeError, RuntimeError) as error:  # the last where it was built without its kernels
        raise UserError(f"NVIDIA Apex is not installed ({error}); install it with: {APEX_INSTALL}, or set train.optimizer=sgd") from error


def learning_rate(epoch: int, step: int, steps_per_epoch: int, settings: TrainConfig, processes: int = 1) -> float:
    """The rate of one optimizer step. epoch and step (in the epoch) count from 0.

    Linear warm-up, then a fall at each milestone, or else every `decay_every` epochs, from `late_epoch` on every `late_decay_every`; while
    weights are averaged, a saw-tooth.
    """
    s = settings
    processes = processes if s.scale_rate_by_processes else 1
    if s.swa.start_epoch is not None and epoch >= s.swa.start_epoch:
        done = ((epoch - s.swa.start_epoch) % s.swa.cycle + step / steps_per_epoch) / s.swa.cycle
        return processes * (s.swa.high + (s.swa.low - s.swa.high) * done)
    if s.milestones is not None:
        falls = sum(epoch >= milestone for milestone in s.milestones)
    else:
        falls = min(epoch, s.late_epoch) // s.decay_every + max(epoch - s.late_epoch, 0) // s.late_decay_every
    rate = s.learning_rate * processes * s.decay**falls
    warmup_steps = s.warmup_epochs * steps_per_epoch
    return rate * min(1.0, (epoch * steps_per_epoch + step + 1) / warmup_steps) if warmup_steps else rate
