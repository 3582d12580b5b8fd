"""Targets: what each pose system's network should predict, rendered on the device for a batch.

`render_targets` renders SimplePose's, of one image.
"""

from typing import NamedTuple

import torch

from config import Config
from config.systems import SYSTEMS
from data.targets.simplepose import render_targets

__all__ = ["render_batch", "render_targets"]


def render_batch(batch: NamedTuple, config: Config, device: torch.device) -> NamedTuple:
    """Return the targets of a collated batch in memory, on the device; their fields are named as the parameters of the system's loss."""
    return SYSTEMS[config.system].load("targets")(batch, config, device)
