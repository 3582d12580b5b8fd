"""Known people in images, and a network in the place of DEKR's that draws their perfect maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from places import ROOT
from torch import Tensor, nn

from config import load_config
from config.systems.dekr import DekrConfig
from data.targets.dekr import render_targets

STRIDE = 4
RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"
NUMBER_STEP = 8  # gray levels of red between one picture and the next


def settings(*overrides: str) -> DekrConfig:
    """Inputs of 256 pixels, for speed."""
    return load_config(RECIPE, ["data.input_size=[256, 256]", *overrides])


def bodies(config: DekrConfig, *boxes: tuple[float, float, float, float], seed: int = 0) -> np.ndarray:
    """(P, K, 2) people of one pose that fill these boxes (x, y, width, height)."""
    pose = np.random.default_rng(seed).uniform(size=(config.skeleton.num_keypoints, 2))
    pose = (pose - pose.min(0)) / np.ptp(pose, 0)
    return np.array([pose * (width, height) + (x, y) for x, y, width, height in boxes])


def pair(config: DekrConfig, size: tuple[int, int]) -> np.ndarray:
    """(2, K, 2) two people in an image of this height and width, side by side, or in a high one below each other."""
    height, width = size
    across = [(0.08, 0.1, 0.3, 0.75), (0.55, 0.3, 0.37, 0.6)]
    boxes = across if width >= height else [(y, x, h, w) for x, y, w, h in across]
    return bodies(config, *[(x * width, y * height, w * width, h * height) for x, y, w, h in boxes])


def rendered_maps(points: np.ndarray, map_size: tuple[int, int], config: DekrConfig, strengths: Sequence[float] | None = None) -> tuple:
    """Heatmap (K + 1, h, w) and offset (2 K, h, w) of people (P, K, 2) in map pixels, the bells of each as high as its strength."""
    joints = np.concatenate([points, points.mean(1, keepdims=True)], 1)
    joints = np.concatenate([joints, np.ones((*joints.shape[:2], 1))], 2)
    sizes = np.square(np.ptp(points, 1)).sum(1)
    heatmap, _, offset, _ = render_targets(joints, sizes, map_size, config)
    if strengths is not None:
        alone = [render_targets(joints[p : p + 1], sizes[p : p + 1], map_size, config)[0] * s for p, s in enumerate(strengths)]
        heatmap = np.max(alone, 0)
    return torch.from_numpy(heatmap), torch.from_numpy(offset)


def scene_image(height: int, width: int, number: int = 0) -> np.ndarray:
    """Blue grows from left to right, green from top to bottom; red tells the image's number, and where it is.

    Gray levels are rounded up or down by chance, so that on average they are exact.
    """
    image = np.empty((height, width, 3))
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 255 - NUMBER_STEP * number
    return np.floor(image + np.random.default_rng(0).uniform(size=image.shape)).clip(0, 255).astype(np.uint8)


class SceneNetwork(nn.Module):
    """Knows who is in each `scene_image`, and draws them wherever and however large it finds it, mirrored too: the perfect network.

    people: of each picture (P, K, 2) in its pixels. sizes: heights and widths. middle: where in the square of input pixels that is a map
    pixel the network takes it to be; 0: where the samples have it, 1.5: in the middle, so that none of its sides is favoured.
    """

    def __init__(
        self,
        config: DekrConfig,
        people: Sequence[np.ndarray],
        sizes: Sequence[tuple[int, int]],
        strengths: Sequence[float] | None = None,
        middle: float = 0,
    ):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.config, self.people, self.sizes, self.strengths, self.middle = config, people, sizes, strengths, middle
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(images.shape))
        heatmaps, offsets = zip(*(self._maps(image.double().numpy() * 255) for image in images))
        return torch.stack(heatmaps), torch.stack(offsets)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self(images)

    def _maps(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        blue, green, red = image
        number = round((255 - red.max()) / NUMBER_STEP)
        y, x = np.nonzero(red > red.max() - 0.5)
        y, x = y[x < x.max() - STRIDE], x[x < x.max() - STRIDE]  # a moved mirror image repeats its last columns
        scale, points = np.array(self.sizes[number][::-1]) - 1, self.people[number]
        across, down = (np.polyfit(place, gray[y, x] / 255 * s, 1) for place, gray, s in ((x, blue, scale[0]), (y, green, scale[1])))
        if across[0] < 0:
            points = points[:, self.config.skeleton.flip_keypoints]
        points = (points - (across[1], down[1])) / (across[0], down[0])
        map_size = image.shape[1] // STRIDE, image.shape[2] // STRIDE
        return rendered_maps((points - self.middle) / STRIDE, map_size, self.config, self.strengths)
