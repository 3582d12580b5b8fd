"""Losses, found by the pose system's name.

A loss is a module with `parts(outputs, *targets)`, a tensor that sums to the loss, so that any number of supervised places can be
watched; `part_name(*index)`, the name of one of them; and `forward(outputs, *targets)`, the sum.
"""

from __future__ import annotations

from torch import nn

from config import Config
from config.systems import SYSTEMS


def build_loss(config: Config) -> nn.Module:
    """The loss of `config.system`."""
    return SYSTEMS[config.system].load("loss")(config)
