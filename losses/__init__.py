"""Build the loss of a pose system.

A loss is a module with `terms(outputs, **targets)`, a tensor whose sum is the loss, so that each term can be logged;
`term_name(*index)`, the name of one of them; and `forward(outputs, **targets)`, the sum. `targets` are the fields of the system's targets
(data/targets) by name.
"""

from __future__ import annotations

from torch import nn

from config import Config
from config.systems import SYSTEMS


def build_loss(config: Config) -> nn.Module:
    """Return the loss of `config.system`."""
    return SYSTEMS[config.system].load("loss")(config)
