"""Losses, found by name.

A loss is a module with `parts(outputs, *targets)`, a tensor that sums to the loss, so that any number of supervised places can be
watched; `part_name(*index)`, the name of one of them; and `forward(outputs, *targets)`, the sum.
"""

from __future__ import annotations

from torch import nn

from config import Config
from losses.focal_l2 import FocalL2

LOSSES = {"focal_l2": FocalL2}


def build_loss(config: Config) -> nn.Module:
    """The loss that `config.loss.name` names."""
    return LOSSES[config.loss.name].from_config(config)
