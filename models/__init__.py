"""Networks, found by the pose system's name."""

from __future__ import annotations

import sys

from torch import nn

from config import Config
from config.systems import SYSTEMS
from models.names import TensorNames


def build_model(config: Config) -> nn.Module:
    """The network of `config.system`, with freshly drawn weights."""
    return SYSTEMS[config.system].load("model")(config)


def tensor_names(model: nn.Module) -> TensorNames:
    """What the file that holds a network says about the names of its tensors: `NAMES` there."""
    return getattr(sys.modules[type(model).__module__], "NAMES", TensorNames())
