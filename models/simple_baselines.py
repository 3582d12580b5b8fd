"""Simple Baselines' network: torchvision's ResNet, three deconvolutions, one 1 x 1 convolution (paper section 2)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import resnet

from config.systems.simple_baselines import SimpleBaselinesConfig
from models.checkpoint_keys import CheckpointKeys, without_prefix
from models.normalize import Normalize

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class SimpleBaselines(nn.Module):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmaps (N, K, H / 4, W / 4). H and W are multiples of 32.

    trunk: the backbone, from normalized images to (N, channels, H / s, W / s) with s = 4 * 2^deconvolutions.
    """

    def __init__(self, keypoints: int, normalize: Normalize, trunk: nn.Module, channels: int, deconvolutions: int, deconv_channels: int):
        super().__init__()
        self.normalize, self.trunk = normalize, trunk
        layers: list[nn.Module] = []
        for _ in range(deconvolutions):
            layers += [nn.ConvTranspose2d(channels, deconv_channels, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(deconv_channels), nn.ReLU(inplace=True)]
            channels = deconv_channels
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, keypoints, 1)
        for module in (*layers, self.final_layer):
            if isinstance(module, (nn.ConvTranspose2d, nn.Conv2d)):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.final_layer.bias)

    @classmethod
    def from_config(cls, config: SimpleBaselinesConfig) -> SimpleBaselines:
        """Build the network of `config.model` for the keypoints of `config.skeleton`."""
        settings = config.model
        trunk, channels = resnet_backbone(settings.depth, settings.style == "caffe")
        return cls(config.skeleton.num_keypoints, Normalize(settings.channel_order == "rgb"), trunk, channels, 3, settings.deconv_channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.final_layer(self.deconv_layers(self.trunk(self.normalize(images))))

    def predict(self, images: Tensor) -> Tensor:
        """Return what the decoder reads: all of `forward`."""
        return self(images)


def resnet_backbone(depth: int, stride_first: bool) -> tuple[nn.Module, int]:
    """Build torchvision's ResNet up to its features at stride 32; return it and the number of channels.

    stride_first: bottlenecks have their stride in the first 1 x 1 convolution, as in Caffe, not in the 3 x 3.
    """
    block = resnet.Bottleneck if depth >= 50 else resnet.BasicBlock
    network = resnet.ResNet(block, BLOCKS[depth])
    if stride_first:
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    layers = OrderedDict((name, layer) for name, layer in network.named_children() if name not in ("avgpool", "fc"))
    return nn.Sequential(layers), network.fc.in_features


def from_published(name: str) -> str | None:
    """Convert a key of the published checkpoints or of a ResNet's ImageNet weights; None: the tensor is not needed.

    Own keys stay, without a 'module.' prefix.
    """
    name = without_prefix(name)
    if name.startswith("fc."):
        return None
    return name if name.startswith(("trunk.", "deconv_layers.", "final_layer.")) else f"trunk.{name}"


def is_output(name: str) -> bool:
    """Return whether a tensor's shape depends on the skeleton."""
    return name.startswith("final_layer.")


# No recipe: the shapes depend neither on the input size nor on the style of strides
NAMES = CheckpointKeys(from_published, is_output, is_backbone=lambda name: name.startswith("trunk."))
