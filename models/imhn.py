"""IMHN, the identity mapping hourglass network (Li et al., Simple Pose, AAAI 2020, section 3.3 and figure 3)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.simplepose import ImhnConfig, SimplePoseConfig
from models import PoseNetwork, init_normal


class ConvBN(nn.Module):
    """Convolution without bias, batch norm and, by default, LeakyReLU(0.01). Stride 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, activation: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.leaky_relu_(x) if self.activation else x


class Residual(nn.Module):
    """Bottleneck: 1x1, 3x3, 1x1 at half the output width, added to the skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.reduce = ConvBN(inputs, outputs // 2, 1)
        self.conv = ConvBN(outputs // 2, outputs // 2, 3)
        self.expand = ConvBN(outputs // 2, outputs, 1, activation=False)
        self.skip = nn.Identity() if inputs == outputs else ConvBN(inputs, outputs, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.expand(self.conv(self.reduce(x))) + self.skip(x))


class Front(nn.Module):
    """From the image to stride 4: (N, 3, H, W) -> (N, channels, H/4, W/4); half of the channels come from dilated convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.stem = ConvBN(3, channels // 4, 7, stride=2)
        self.residual1 = Residual(channels // 4, half)
        self.residual2 = Residual(half, half)
        self.dilated = nn.Sequential(*(ConvBN(half, half, 3, dilation=d) for d in (3, 3, 4, 4, 5, 5)))

    def forward(self, images: Tensor) -> Tensor:
        x = self.residual2(F.max_pool2d(self.residual1(self.stem(images)), 2))
        return torch.cat([x, self.dilated(x)], 1)


class HourglassLevel(nn.Module):
    """Halve the resolution and restore it; the innermost level has a residual block instead of a next level."""

    def __init__(self, channels: int, inner_channels: int, innermost: bool):
        super().__init__()
        self.upper = Residual(channels, channels)
        self.down = Residual(channels, inner_channels)
        self.bottom = Residual(inner_channels, inner_channels) if innermost else None
        self.up = Residual(inner_channels, channels)
        self.smooth = ConvBN(channels, channels, 3)


class Hourglass(nn.Module):
    """Encoder-decoder with supervision of its inner outputs too.

    (N, c_0, h, w) -> depth + 1 maps, finest first: (N, c_d, h / 2^d, w / 2^d) with c_d = channels[d].
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        depth = len(channels) - 1
        self.levels = nn.ModuleList(HourglassLevel(channels[d], channels[d + 1], d == depth - 1) for d in range(depth))

    def forward(self, x: Tensor, depth: int = 0) -> list[Tensor]:
        level = self.levels[depth]
        assert isinstance(level, HourglassLevel)
        inner = level.down(F.max_pool2d(x, 2))
        scales = [level.bottom(inner)] if level.bottom is not None else self(inner, depth + 1)
        back = level.smooth(F.interpolate(level.up(scales[0]), scale_factor=2, mode="nearest"))
        return [level.upper(x) + back, *scales]


class SqueezeExcitation(nn.Module):
    """Channel attention from the global average (Hu et al. 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16)
        self.expand = nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        attention = torch.sigmoid(self.expand(F.leaky_relu_(self.squeeze(x.mean((2, 3))))))
        return x * attention[:, :, None, None]


class Features(nn.Module):
    """Features for one scale's prediction: (N, inputs, h, w) -> (N, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs, 3)
        self.conv2 = ConvBN(outputs, outputs, 3)
        self.excitation = SqueezeExcitation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.excitation(self.conv2(self.conv1(x)))


class Stage(nn.Module):
    """One hourglass with a prediction at every scale, and the caches for the next stage, if there is one."""

    def __init__(self, channels: list[int], outputs: int, last: bool):
        super().__init__()
        width = channels[0]
        self.hourglass = Hourglass(channels)
        self.features = nn.ModuleList(Features(c, width) for c in channels)
        self.predictions = nn.ModuleList(nn.Conv2d(width, outputs, 1) for _ in channels)
        cached = [] if last else channels
        self.merge_features = nn.ModuleList(ConvBN(width, c, 1, activation=False) for c in cached)
        self.merge_predictions = nn.ModuleList(ConvBN(outputs, c, 1, activation=False) for c in cached)

    def forward(self, x: Tensor, caches: list[Tensor], count: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Return predictions and caches of every scale, or of the `count` finest, finest first.

        x (N, c_0, h, w); caches: the previous stage's, if there is one. Each scale is independent of the coarser ones.
        """
        scales = self.hourglass(x)[:count]
        if caches:
            scales = [scale + cache for scale, cache in zip(scales, caches)]
        features = [module(scale) for module, scale in zip(self.features, scales)]
        predictions = [module(feature) for module, feature in zip(self.predictions, features)]
        merged = zip(self.merge_features, self.merge_predictions, features, predictions)
        return predictions, [by_features(f) + by_predictions(p) for by_features, by_predictions, f, p in merged]


class IMHN(PoseNetwork):
    """Stacked hourglasses with identity mappings between the stages at every scale."""

    def __init__(self, config: SimplePoseConfig):
        super().__init__()
        m = config.model
        assert isinstance(m, ImhnConfig)
        widths = [m.channels + m.channels_increase * d for d in range(m.depth + 1)]
        self.front = Front(m.channels)
        self.stages = nn.ModuleList(Stage(widths, config.channels.count, last=s == m.stages - 1) for s in range(m.stages))
        self.apply(_initialize)

    def forward(self, images: Tensor, scales: int | None = None) -> list[list[Tensor]]:
        """Return, per stage, predictions (N, C, H / (4 * 2^i), W / (4 * 2^i)) of every scale i, finest first, or of the `scales` finest.

        images (N, 3, H, W) float32 BGR in [0, 1], H and W multiples of 4 * 2^depth. Predictions are unbounded; targets lie in [0, 1].
        """
        x, predictions = self.front(images), []
        caches: list[Tensor] = []
        for stage in self.stages:
            stage_predictions, caches = stage(x, caches, scales)
            predictions.append(stage_predictions)
            if caches:
                x = x + caches[0]
        return predictions

    def predict(self, images: Tensor) -> Tensor:
        """Return the last stage's predictions at the finest scale (N, C, H / 4, W / 4); skip the layers of coarser predictions."""
        return self(images, 1)[-1][0]

    @staticmethod
    def convert_key(key: str) -> str:
        """Convert a key of the published checkpoints; own keys stay, without a 'module.' prefix."""
        for pattern, replacement in PUBLISHED_KEYS:
            key = re.sub(pattern, replacement, key)
        return key

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the number of map channels."""
        return ".predictions." in key or ".merge_predictions." in key

    @staticmethod
    def is_backbone(key: str) -> bool:
        """Return whether `model.backbone` fills a tensor: all but the output layers."""
        return not IMHN.is_output(key)

    @staticmethod
    def recipe(weights: Mapping[str, Tensor]) -> str | None:
        """Return the published recipe for an IMHN of any size."""
        return "simplepose_coco_512" if "front.stem.conv.weight" in map(IMHN.convert_key, weights) else None


def _initialize(module: nn.Module) -> None:
    """Initialize as published: conv N(0, 0.001), linear N(0, 0.01), biases 0; batch norm's default is 1 and 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        init_normal(module, 0.001 if isinstance(module, nn.Conv2d) else 0.01)


LEVEL_PARTS = ("upper", "down", "up", "smooth", "bottom")
RESIDUAL_PARTS = {0: "reduce.conv", 1: "reduce.bn", 3: "conv.conv", 4: "conv.bn", 6: "expand.conv", 7: "expand.bn"}
PUBLISHED_KEYS = [
    (r"^(module\.)?(posenet\.)?", ""),
    (r"^pre\.(conv|bn)1\.", r"front.stem.\1."),
    (r"^pre\.res(\d)\.", r"front.residual\1."),
    (r"^pre\.dilation\.", "front.dilated."),
    (r"^hourglass\.(\d+)\.hg\.(\d+)\.", r"stages.\1.hourglass.levels.\2."),
    *((rf"(levels\.\d+)\.{number}\.", rf"\1.{part}.") for number, part in enumerate(LEVEL_PARTS)),
    *((rf"convBlock\.{number}\.", f"{part}.") for number, part in RESIDUAL_PARTS.items()),
    (r"skipConv\.0\.", "skip.conv."),
    (r"skipConv\.1\.", "skip.bn."),
    (r"^features\.(\d+)\.before_regress\.(\d+)\.", r"stages.\1.features.\2."),
    (r"(\.features\.\d+)\.0\.(conv|bn)", r"\1.conv1.\2"),
    (r"(\.features\.\d+)\.1\.(conv|bn)", r"\1.conv2.\2"),
    (r"(\.features\.\d+)\.2\.fc\.0\.", r"\1.excitation.squeeze."),
    (r"(\.features\.\d+)\.2\.fc\.2\.", r"\1.excitation.expand."),
    (r"^outs\.(\d+)\.(\d+)\.conv\.", r"stages.\1.predictions.\2."),
    (r"^merge_features\.(\d+)\.(\d+)\.conv\.", r"stages.\1.merge_features.\2."),
    (r"^merge_preds\.(\d+)\.(\d+)\.conv\.", r"stages.\1.merge_predictions.\2."),
]
