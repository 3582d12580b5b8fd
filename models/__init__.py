"""Build networks by the names of the pose system and of the network."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from config import Config, UserError
from config.systems import SYSTEMS
from models.checkpoint_keys import CheckpointKeys


def build_model(config: Config) -> nn.Module:
    """Build the network `config.model.name` of `config.system` with initial weights.

    `forward` takes images (N, 3, H, W), float32 BGR in [0, 1], and returns the loss's inputs. `predict` returns the tensor, or tuple of
    tensors, that the decoder reads, and computes no more than that.
    """
    return SYSTEMS[config.system].networks[config.model.name].load("model")(config)


def checkpoint_keys_of(model: nn.Module) -> CheckpointKeys:
    """Return `NAMES` of the network's module."""
    return _keys_beside(type(model))


def published_recipe(weights: Mapping[str, Tensor]) -> str | None:
    """Return the recipe in `config/` of a published checkpoint; None if no system has it."""
    for network in (network for entry in SYSTEMS.values() for network in entry.networks.values()):
        keys = _keys_beside(network.load("model"))
        recipe = keys.recipe({keys.convert_key(key): tuple(tensor.shape) for key, tensor in weights.items()})
        if recipe is not None:
            return recipe
    return None


def _keys_beside(of: Any) -> CheckpointKeys:
    return getattr(sys.modules[of.__module__], "NAMES", CheckpointKeys())


def download_backbone(model: nn.Module) -> dict[str, Tensor]:
    """Return ImageNet weights of the network's backbone, by `download_backbone` of the network's module.

    Raises UserError for a network without that function.
    """
    download = getattr(sys.modules[type(model).__module__], "download_backbone", None)
    if download is None:
        raise UserError(f"model.backbone: there are no weights to be downloaded for {type(model).__name__}; name a file")
    return download(model)
