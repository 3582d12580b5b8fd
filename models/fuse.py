"""Fuse batch norms into the preceding convolutions: in evaluation mode both are one linear function."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def fuse_conv_bn(network: nn.Module) -> None:
    """Fuse in place each convolution with the batch norm after it, in a Sequential or as conv1, bn1 of a block.

    For a network in evaluation mode that will not be trained again.
    """
    for block in network.modules():
        layers = dict(block.named_children())
        for name, convolution in layers.items():
            norm = _norm_after(name, block, list(layers))
            if isinstance(convolution, CONVOLUTIONS) and isinstance(layers.get(norm), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(convolution, layers[norm], transpose=isinstance(convolution, nn.ConvTranspose2d))
                block.register_module(name, fused)
                block.register_module(norm, nn.Identity().eval())


def _norm_after(name: str, block: nn.Module, names: list[str]) -> str | None:
    """Return the name of the layer that is applied after the layer `name`, if it can be known."""
    following = names[names.index(name) + 1 :]
    if isinstance(block, nn.Sequential):
        return following[0] if following else None
    norm = f"bn{name.removeprefix('conv')}"
    # A block that lists its norms first applies them first
    return norm if re.fullmatch(r"conv\d*", name) and norm in following else None
