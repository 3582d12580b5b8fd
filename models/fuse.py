"""Fuse batch norms into the preceding convolutions: in evaluation mode both are one linear function."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_conv_bn(network: nn.Module) -> None:
    """Fuse in place each convolution with the batch norm that follows it, in a Sequential or by name as conv1 and bn1.

    For a network in evaluation mode that will not be trained again.
    """
    for block in network.modules():
        for (name, convolution), (norm_name, norm) in pairwise(list(block.named_children())):
            applied_next = isinstance(block, nn.Sequential) or norm_name == name.replace("conv", "bn")
            # Not a subclass: timm's has an activation inside
            if applied_next and isinstance(convolution, (nn.Conv2d, nn.ConvTranspose2d)) and type(norm) is nn.BatchNorm2d:
                fused = fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, nn.ConvTranspose2d))
                block.register_module(name, fused)
                block.register_module(norm_name, nn.Identity().eval())
