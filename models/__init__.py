"""Networks, found by name."""

from __future__ import annotations

from torch import nn

from config import Config
from models.imhn import IMHN

MODELS = {"imhn": IMHN}


def build_model(config: Config) -> nn.Module:
    """The network that `config.model.name` names, with freshly drawn weights."""
    return MODELS[config.model.name].from_config(config)
