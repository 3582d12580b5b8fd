"""Images that a test's network recognizes, with known people, and a network that returns their exact DEKR maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from places import ROOT
from torch import Tensor, nn

from config import load_config
from config.systems.dekr import DekrConfig
from data.targets.dekr import render_targets

STRIDE = 4
RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"
MOVENET_RECIPE = ROOT / "config" / "dekr_small.yaml"
RED_STEP = 8  # gray levels of red from one scene to the next


def settings(*overrides: str, recipe: Path = RECIPE) -> DekrConfig:
    return load_config(recipe, ["data.input_size=[256, 256]", *overrides])


def poses_in_boxes(config: DekrConfig, *boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Return (P, K, 2): one random pose, stretched to each box (x, y, width, height)."""
    pose = np.random.default_rng(0).uniform(size=(config.skeleton.num_keypoints, 2))
    pose = (pose - pose.min(0)) / np.ptp(pose, 0)
    return np.array([pose * (width, height) + (x, y) for x, y, width, height in boxes])


def two_people(config: DekrConfig, size: tuple[int, int]) -> np.ndarray:
    """Return (2, K, 2) poses side by side, or one above the other in a portrait image. size: height, width."""
    height, width = size
    boxes = [(0.08, 0.1, 0.3, 0.75), (0.55, 0.3, 0.37, 0.6)]
    boxes = boxes if width >= height else [(y, x, h, w) for x, y, w, h in boxes]
    return poses_in_boxes(config, *[(x * width, y * height, w * width, h * height) for x, y, w, h in boxes])


def rendered_maps(
    points: np.ndarray, map_size: tuple[int, int], config: DekrConfig, strengths: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """Return heatmap (K + 1, h, w) and offset (2 K, h, w) of poses (P, K, 2) in map pixels. strengths: maximum heatmap value of each."""
    joints = np.concatenate([points, points.mean(1, keepdims=True)], 1)
    joints = np.concatenate([joints, np.ones((*joints.shape[:2], 1))], 2)
    areas = np.square(np.ptp(points, 1)).sum(1)
    heatmap, _, offset, _ = render_targets(joints, areas, map_size, config)
    if strengths is not None:
        singles = [render_targets(joints[p : p + 1], areas[p : p + 1], map_size, config)[0] * s for p, s in enumerate(strengths)]
        heatmap = np.max(singles, 0)
    return torch.from_numpy(heatmap), torch.from_numpy(offset)


def scene_image(height: int, width: int, number: int = 0) -> np.ndarray:
    """Return an image whose blue is the x coordinate and green the y coordinate; red encodes the scene's number.

    Gray levels are rounded up or down at random, so that their mean is exact.
    """
    image = np.empty((height, width, 3))
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 255 - RED_STEP * number
    return np.floor(image + np.random.default_rng(0).uniform(size=image.shape)).clip(0, 255).astype(np.uint8)


def located(image: np.ndarray, sizes: Sequence[tuple[int, int]]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of the `scene_image` in a network's input (3, h, w) from 0 to 255, and scale and shift (2,) from input to scene.

    sizes: height and width of each scene. The scale in x of a flipped image is negative.
    """
    number = round((255 - image[2].max()) / RED_STEP)
    y, x = np.nonzero(image[2] > image[2].max() - 0.5)
    y, x = y[x < x.max() - STRIDE], x[x < x.max() - STRIDE]  # a shifted flipped image repeats its last columns
    positions = image[:2, y, x] / 255 * (np.array(sizes[number][::-1]) - 1)[:, None]
    scale, shift = np.transpose([np.polyfit(at, position, 1) for at, position in zip((x, y), positions)])
    return number, scale, shift


class SceneNetwork(nn.Module):
    """Locate a `scene_image` in its input, flipped or scaled, and return the exact maps of its poses.

    poses: of each scene (P, K, 2) in image pixels. sizes: heights and widths.
    """

    def __init__(
        self, config: DekrConfig, poses: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], strengths: Sequence[float] | None = None
    ):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.config, self.poses, self.sizes, self.strengths = config, poses, sizes, strengths
        self.input_shapes: list[tuple[int, ...]] = []

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.input_shapes.append(tuple(images.shape))
        heatmaps, offsets = zip(*(self._maps(image.double().numpy() * 255) for image in images))
        return torch.stack(heatmaps), torch.stack(offsets)

    def _maps(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        number, scale, shift = located(image, self.sizes)
        points = self.poses[number]
        if scale[0] < 0:
            points = points[:, self.config.skeleton.flip_keypoints]
        points = (points - shift) / scale
        points = points / STRIDE - self.config.model.pixel_center * (STRIDE - 1) / STRIDE
        return rendered_maps(points, (image.shape[1] // STRIDE, image.shape[2] // STRIDE), self.config, self.strengths)
