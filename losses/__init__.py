"""Build the loss of a pose system."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from config import Config
from config.systems import SYSTEMS


class Loss(nn.Module):
    """A loss whose terms can be logged: `terms(outputs, **targets)` returns a tensor of them, `term_name(*index)` the name of one.

    targets: the fields of the system's targets (data/targets) by name.
    """

    terms: Callable[..., Tensor]
    term_name: Callable[..., str]

    def forward(self, outputs: Any, *targets: Tensor, **named: Tensor) -> Tensor:
        """Return the scalar loss, the sum of the terms."""
        return self.terms(outputs, *targets, **named).sum()


def build_loss(config: Config) -> Loss:
    """Return the loss of `config.system`."""
    return SYSTEMS[config.system].load("loss")(config)
