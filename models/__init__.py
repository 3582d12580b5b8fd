"""Networks, found by the names of the pose system and of the network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from config import Config, UserError
from config.systems import SYSTEMS
from models.checkpoint_keys import CheckpointKeys


def build_model(config: Config) -> nn.Module:
    """The network of `config.system` that `config.model.name` names, with freshly drawn weights.

    Called with images (N, 3, H, W), float32 BGR in [0, 1], it gives what the loss compares; its method `predict` gives of that what people
    are found from, a tensor or a tuple of them, and computes no more than that.
    """
    return SYSTEMS[config.system].networks[config.model.name].load("model")(config)


def checkpoint_keys_of(model: nn.Module) -> CheckpointKeys:
    """What the file that holds a network says about the names of its tensors: `NAMES` there."""
    return _names(type(model))


def published_recipe(weights: Mapping[str, Tensor]) -> str | None:
    """The recipe in `config/` of a published checkpoint, from the system that knows its tensors; None: no system does."""
    for network in (network for entry in SYSTEMS.values() for network in entry.networks.values()):
        names = _names(network.load("model"))
        recipe = names.recipe({names.ours(name): tuple(tensor.shape) for name, tensor in weights.items()})
        if recipe is not None:
            return recipe
    return None


def _names(of: Any) -> CheckpointKeys:
    return getattr(sys.modules[of.__module__], "NAMES", CheckpointKeys())


def download_backbone(model: nn.Module) -> dict[str, Tensor]:
    """Weights for the network's trunk from where the file that holds it says. Raises UserError where it says nothing."""
    download = getattr(sys.modules[type(model).__module__], "download_backbone", None)
    if download is None:
        raise UserError(f"model.backbone: there are no weights to be downloaded for {type(model).__name__}; name a file")
    return download(model)
