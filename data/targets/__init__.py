"""What each pose system's network should answer, drawn on the device for a whole batch; `render_targets` is SimplePose's, of one image."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from config import Config
from config.systems import SYSTEMS
from data.targets.simplepose import render_targets

__all__ = ["BatchTargets", "render_targets", "targets_of"]


class BatchTargets(Protocol):
    """A system's targets of a batch, on the device, as its loss takes them.

    annotated: what its samples hold besides the image, each (N, ...), in memory: places are worked out there, so that nothing waits for the
    device.
    """

    def __call__(self, config: Config, device: torch.device, *annotated: Tensor) -> tuple[Tensor, ...]: ...


def targets_of(config: Config) -> BatchTargets:
    """The targets of `config.system`."""
    return SYSTEMS[config.system].load("targets")
