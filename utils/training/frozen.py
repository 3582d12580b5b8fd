"""Parts of the network that stay as they are (train.freeze)."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from config import UserError


def frozen_names(network: nn.Module, patterns: Iterable[str]) -> set[str]:
    """The parameters whose names fit one of the patterns."""
    patterns = list(patterns)
    return {name for name, _ in network.named_parameters() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def freeze(network: nn.Module, patterns: Iterable[str]) -> None:
    """Have the parameters whose names fit one of the patterns not learn. Raises UserError where a pattern fits none, or nothing is left."""
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        named = frozen_names(network, [pattern])
        if not named:
            raise UserError(f"train.freeze: no parameter is called {pattern!r}; there are {next(iter(parameters))}, ...")
        for name in named:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("train.freeze: nothing is left to train")


def train_mode(step: nn.Module, network: nn.Module) -> None:
    """Training mode, but for batch norms without a parameter that learns: their statistics stay too."""
    step.train()
    for module in network.modules():
        learns = [parameter.requires_grad for parameter in module.parameters()]
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and learns and not any(learns):
            module.eval()
