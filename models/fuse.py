"""Batch norms folded into the convolutions before them: out of training both are one linear function."""

from __future__ import annotations

import re

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORM_OF = re.compile(r"bn(\d*)")  # a block's bn, bn1, ... comes right after its conv, conv1, ...


def fuse_conv_bn(network: nn.Module) -> None:
    """Fold, in place, what belongs together by its position in a Sequential or by its name in a block; its answer stays as it was.

    For a network that is not in training, and will not be.
    """
    for block in network.modules():
        layers = dict(block.named_children())
        for name, convolution in layers.items():
            norm = _norm_after(name, block, layers)
            if isinstance(convolution, CONVOLUTIONS) and isinstance(layers.get(norm), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(convolution, layers[norm], transpose=isinstance(convolution, nn.ConvTranspose2d))
                block.register_module(name, fused)
                block.register_module(norm, nn.Identity().eval())


def _norm_after(name: str, block: nn.Module, layers: dict[str, nn.Module]) -> str | None:
    """What the batch norm after the layer of this name would be called."""
    names = list(layers)
    if isinstance(block, nn.Sequential):
        return next(iter(names[names.index(name) + 1 :]), None)
    norm = f"bn{name.removeprefix('conv')}"
    # In a block that begins with its norms, conv1 is not followed by bn1
    follows = name.startswith("conv") and NORM_OF.fullmatch(norm) and norm in names and names.index(norm) > names.index(name)
    return norm if follows else None
