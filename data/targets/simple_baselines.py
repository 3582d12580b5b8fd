"""Simple Baselines' targets: a heatmap of each keypoint of one person (paper section 2)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.systems.simple_baselines import SimpleBaselinesConfig
from data.datasets.simple_baselines import SimpleBaselinesSample
from data.targets.rasterize import BoxPixels, gaussians, to_device

REACH = 3  # sigmas from a Gaussian's center to its border


class SimpleBaselinesTargets(NamedTuple):
    """A batch's targets."""

    target: Tensor  # (N, K, h, w) float32 in [0, 1]
    target_weight: Tensor  # (N, K, 1) float32, 1 where a keypoint counts


def render_targets(
    joints: np.ndarray, labeled: np.ndarray, input_size: tuple[int, int], config: SimpleBaselinesConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Render one person's heatmaps (K, h, w) in [0, 1] and weights (K, 1), float32.

    joints (K, 2): x, y in input pixels. labeled (K,): above 0 where labeled. A Gaussian is centered on the whole map pixel nearest to
    its keypoint. A keypoint whose Gaussian lies outside the map has weight 0.
    """
    targets = _render(joints[None], labeled[None] > 0, input_size, config, torch.device("cpu"))
    target, weight = (maps[0].numpy() for maps in targets)
    return target, weight


def render_batch(batch: SimpleBaselinesSample, config: SimpleBaselinesConfig, device: torch.device) -> SimpleBaselinesTargets:
    """Render a batch's targets on the device."""
    return _render(batch.keypoints.numpy(), batch.labeled.numpy(), config.data.input_size, config, device)


def _render(
    points: np.ndarray, labeled: np.ndarray, input_size: tuple[int, int], config: SimpleBaselinesConfig, device: torch.device
) -> SimpleBaselinesTargets:
    """points (N, K, 2) in input pixels, labeled (N, K) bool."""
    stride, sigma = config.model.stride, config.targets.sigma
    height, width = input_size[0] // stride, input_size[1] // stride
    reach = int(REACH * sigma)
    middles = (points / stride + 0.5 - config.model.pixel_center).astype(int)
    inside = (middles >= -reach).all(-1) & (middles < np.array([width, height]) + reach).all(-1)
    weight = labeled & inside
    (image, keypoint), keypoints = np.nonzero(weight), points.shape[1]
    centers = middles[image, keypoint]
    target = torch.zeros(len(points), keypoints, height, width, device=device)
    pixels = BoxPixels.of(centers - reach, centers + reach + 1, image * keypoints + keypoint, (height, width), device)
    pixels.scatter_max(target, gaussians(pixels, centers, sigma))
    return SimpleBaselinesTargets(target, to_device(weight[..., None].astype(np.float32), device))
