"""SimplePose's maps from MoveNet's features: its keypoint heatmaps, and a head for limbs, midpoints, person mask and maximum."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.simplepose import SimplePoseConfig, SimplePoseMobileConfig
from models import init_normal
from models.movenet import FEATURES, PYRAMID, MoveNet

FAR = 16.0  # cells: the limb head reads regressions in this unit, clipped at 2


class ConvBN(nn.Sequential):
    """Convolution, batch norm and ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__(nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class LimbHead(nn.Module):
    """Features at strides 4, 8, 16, 32 -> predictions at the same strides, each from its features and the coarser ones.

    inputs, outputs: channels of the features and of the predictions, finest first.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], channels: int):
        super().__init__()
        self.laterals = nn.ModuleList(ConvBN(count, channels, 1) for count in inputs)
        self.blocks = nn.ModuleList(ConvBN(channels, channels, 3) for _ in inputs)
        self.finest = ConvBN(channels, channels, 3)
        predictions = [nn.Conv2d(channels, count, 1) for count in outputs]
        for layer in predictions:
            init_normal(layer, 0.001)
        self.predictions = nn.ModuleList(predictions)

    def forward(self, features: Sequence[Tensor], coarser: bool = True) -> list[Tensor]:
        """Return the predictions, finest first. coarser: False omits the others."""
        x: Tensor | None = None
        predictions: list[Tensor] = []
        for scale in reversed(range(len(features))):
            lateral = self.laterals[scale](features[scale])
            x = lateral if x is None else lateral + F.interpolate(x, scale_factor=2.0, mode="bilinear")
            x = x + self.blocks[scale](x)
            if scale == 0:
                x = x + self.finest(x)
            if coarser or scale == 0:
                predictions.insert(0, self.predictions[scale](x))
        return predictions


class SimplePoseMobile(MoveNet):
    """Predict the maps of labeled keypoints by MoveNet's heatmap head, in the data set's order, and all others anew."""

    used_heads = ("keypoint_heatmap", "keypoint_regression")
    order: Tensor

    def __init__(self, config: SimplePoseConfig):
        assert isinstance(config.model, SimplePoseMobileConfig)
        skeleton, channels = config.skeleton, config.channels
        labeled = [skeleton.index(name) for name in skeleton.dataset.values()]
        super().__init__(config.model.width, dict(zip(self.used_heads, (len(labeled), 2 * len(labeled)))))
        inputs = [FEATURES + 3 * len(labeled), *(outputs for _, outputs in PYRAMID[-2::-1])]
        outputs = [channels.count - len(labeled), *[channels.count] * 3]
        self.limbs = LimbHead(inputs, outputs, config.model.limb_channels)
        new = [channel for channel in range(channels.count) if channel - channels.keypoints.start not in labeled]
        order = torch.tensor(new + [channels.keypoints.start + keypoint for keypoint in labeled])
        self.register_buffer("order", order.argsort(), persistent=False)  # (C,) where each map is in [limb head's, heatmap head's]

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        """Return predictions (N, C, H / 4, W / 4) to (N, C, H / 32, W / 32), finest first, as the maps of one stage.

        images (N, 3, H, W) float32 BGR in [0, 1], H and W multiples of 32. Keypoints lie in [0, 1], other predictions are unbounded.
        """
        return [self._maps(images, coarser=True)]

    def predict(self, images: Tensor) -> Tensor:
        """Return the predictions at the finest scale (N, C, H / 4, W / 4)."""
        return self._maps(images, coarser=False)[0]

    def _maps(self, images: Tensor, coarser: bool) -> list[Tensor]:
        (finest, *others), maps = self.features_and_maps(images)
        heatmaps, regression = maps["keypoint_heatmap"].sigmoid(), (maps["keypoint_regression"] / FAR).clamp(-2, 2)
        predictions = self.limbs([torch.cat([finest, heatmaps, regression], 1), *others], coarser)
        return [torch.cat([predictions[0], heatmaps], 1)[:, self.order], *predictions[1:]]

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the skeleton, or MoveNet's published files lack it."""
        return MoveNet.is_output(key) or key.startswith("limbs.")
