"""MoveNet (Google): a MobileNetV2 trunk, a feature pyramid down to stride 4, and heads. Batch norm is folded into the convolutions.

Unusual in it: strided convolutions pad right and below only, as TensorFlow does, so cell (i, j) of a map covers the input pixels from
(4 i, 4 j) up to (4 i + 4, 4 j + 4); features are merged by a depthwise convolution without activation, then a pointwise one.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import PoseNetwork
from models.normalize import Normalize

STEM, LAST = 32, 1280  # channels at width 1; the last layer's do not depend on the width
STAGES = [(16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]  # channels at width 1, blocks, stride
EXPANSION = 6  # of the channels inside a block; 1 in the first
TAPS = (2, 5, 9)  # the pyramid takes the features of these blocks, before a halving or a widening; strides 4, 8, 16
PYRAMID = ((64, 64), (64, 32), (32, 24), (24, 24))  # channels of each lateral, and after its merge; strides 32, 16, 8, 4
FEATURES, HEAD_CHANNELS = PYRAMID[-1][1], 96


def scaled(channels: int, width: float) -> int:
    """Return a layer's channels at a width: a multiple of 8."""
    return max(8, int(channels * width + 4) // 8 * 8)


class Conv(nn.Conv2d):
    """A convolution with TensorFlow's padding SAME, for even sides: at stride 2 it pads right and below only."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return super().forward(x)
        if torch.jit.is_tracing():  # ONNX needs kernels of known shape
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride, groups=self.groups)
        weight = F.pad(self.weight, (1, 0, 1, 0))  # zeros over what `padding` adds on the left and above: cheaper than padding x
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)


class Block(nn.Module):
    """MobileNetV2's inverted residual: expand, filter each channel, project without activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        self.expand = Conv(inputs, inputs * expansion) if expansion > 1 else None
        self.depthwise = Conv(inputs * expansion, inputs * expansion, 3, stride, groups=inputs * expansion)
        self.project = Conv(inputs * expansion, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """MobileNetV2: normalized images (N, 3, H, W) -> features at strides 4, 8, 16, 32. `channels`: theirs."""

    def __init__(self, width: float):
        super().__init__()
        self.stem = Conv(3, scaled(STEM, width), 3, 2)
        inputs, outputs, number = scaled(STEM, width), [], 0
        for channels, blocks, stride in STAGES:
            for n in range(blocks):
                self.add_module(
                    f"block{number}", Block(inputs, scaled(channels, width), stride if n == 0 else 1, EXPANSION if number else 1)
                )
                inputs, number = scaled(channels, width), number + 1
                outputs.append(inputs)
        self.last = Conv(inputs, LAST)
        self.channels = [*(outputs[tap] for tap in TAPS), LAST]

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = F.relu6(self.stem(images), inplace=True), []
        for number in range(sum(blocks for _, blocks, _ in STAGES)):
            x = self.get_submodule(f"block{number}")(x)
            if number in TAPS:
                features.append(x)
        return [*features, F.relu6(self.last(x), inplace=True)]


class Merge(nn.Module):
    """Filter and mix the sum of two features."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.depthwise = Conv(inputs, inputs, 3, groups=inputs, bias=False)
        self.pointwise = Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.pointwise(self.depthwise(x)))


class Pyramid(nn.Module):
    """Features of the trunk (strides 4, 8, 16, 32) -> features with 24, 24, 32, 64 channels at the same strides."""

    def __init__(self, channels: list[int]):
        super().__init__()
        for stride, inputs, (lateral, outputs) in zip((32, 16, 8, 4), reversed(channels), PYRAMID):
            self.add_module(f"lateral{stride}", Conv(inputs, lateral))
            if stride < 32:
                self.add_module(f"merge{stride}", Merge(lateral, outputs))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        *finer, coarsest = features
        outputs = [self.get_submodule("lateral32")(coarsest)]
        for stride, tap in zip((16, 8, 4), reversed(finer)):
            lateral, merge = self.get_submodule(f"lateral{stride}"), self.get_submodule(f"merge{stride}")
            outputs.append(merge(F.interpolate(outputs[-1], scale_factor=2.0, mode="bilinear") + lateral(tap)))
        return outputs[::-1]


class Head(nn.Module):
    """The finest features (N, FEATURES, h, w) -> (N, outputs, h, w), unbounded."""

    def __init__(self, outputs: int):
        super().__init__()
        self.depthwise = Conv(FEATURES, FEATURES, 3, groups=FEATURES, bias=False)
        self.pointwise = Conv(FEATURES, HEAD_CHANNELS)
        self.output = Conv(HEAD_CHANNELS, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.output(F.relu_(self.pointwise(self.depthwise(features))))


class MoveNet(PoseNetwork):
    """Images (N, 3, H, W) BGR in [0, 1], H and W multiples of 32 -> the pyramid's features at strides 4, 8, 16, 32, and the heads' maps.

    outputs: channels of each head by its name, as in MoveNet's published files: center, keypoint_heatmap (logits), keypoint_regression
    (y, x from the center's cell to each keypoint, in cells), keypoint_offset, box_size, box_offset.
    """

    used_heads: ClassVar[tuple[str, ...]] = (
        "center",
        "keypoint_heatmap",
        "keypoint_regression",
        "keypoint_offset",
        "box_size",
        "box_offset",
    )

    def __init__(self, width: float, outputs: Mapping[str, int]):
        super().__init__()
        self.normalize = Normalize(mean=(0.5,) * 3, std=(0.5,) * 3)
        self.trunk = Trunk(width)
        self.pyramid = Pyramid(self.trunk.channels)
        self.heads = nn.ModuleDict({name: Head(channels) for name, channels in outputs.items()})

    def features_and_maps(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the pyramid's features, finest first, and each head's maps by its name."""
        features = self.pyramid(self.trunk(self.normalize(images)))
        return features, {name: head(features[0]) for name, head in self.heads.items()}

    @classmethod
    def convert_key(cls, key: str) -> str | None:
        """Return a key of MoveNet's published files as it is; None: another head's."""
        key = key.removeprefix("module.")
        return None if key.startswith("heads.") and key.split(".")[1] not in cls.used_heads else key

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the skeleton."""
        return key.startswith("heads.keypoint_") and ".output." in key

    @staticmethod
    def is_backbone(key: str) -> bool:
        """Return whether `model.backbone` fills a tensor."""
        return key.startswith(("trunk.", "pyramid."))
