"""What Simple Baselines' network should answer: a heatmap of each keypoint of one person (paper section 2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from config.systems.simple_baselines import STRIDE, SimpleBaselinesConfig
from data.targets.drawing import Pixels, gaussians, on_device

REACH = 3  # sigmas that a drawn Gaussian goes to each side


def render_targets(
    joints: np.ndarray, labelled: np.ndarray, input_size: tuple[int, int], config: SimpleBaselinesConfig
) -> tuple[np.ndarray, np.ndarray]:
    """One person's joints (K, 2) x, y in input pixels, labelled (K,) above 0 where they are -> heatmap (K, h, w) in [0, 1] and weight
    (K, 1), float32.

    A Gaussian stands on the whole map pixel that is nearest to its joint. A joint whose Gaussian lies outside the map has weight 0.
    """
    maps = draw_maps(joints[None], labelled[None] > 0, input_size, config, torch.device("cpu"))
    return tuple(of_batch[0].numpy() for of_batch in maps)


def batch_targets(config: SimpleBaselinesConfig, device: torch.device, joints: Tensor) -> tuple[Tensor, Tensor]:
    """On the device, what the loss wants of a batch: heatmap (N, K, h, w) and weight (N, K, 1) as in `render_targets`.

    joints (N, K, 3), in memory: x, y in input pixels, and 1 where labelled.
    """
    return draw_maps(joints[..., :2].numpy(), joints[..., 2].numpy() > 0, config.data.input_size, config, device)


def draw_maps(
    joints: np.ndarray, labelled: np.ndarray, input_size: tuple[int, int], config: SimpleBaselinesConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`render_targets` of a batch: joints (N, K, 2), labelled (N, K) bool."""
    height, width = input_size[0] // STRIDE, input_size[1] // STRIDE
    sigma = config.targets.sigma
    reach = int(REACH * sigma)
    middles = (joints / STRIDE + 0.5).astype(int)
    seen = (middles >= -reach).all(-1) & (middles < np.array([width, height]) + reach).all(-1)
    weight = labelled & seen
    (image, keypoint), keypoints = np.nonzero(weight), joints.shape[1]
    centres = middles[image, keypoint]
    heatmap = torch.zeros(len(joints), keypoints, height, width, device=device)
    pixels = Pixels.of(centres - reach, centres + reach + 1, image * keypoints + keypoint, (height, width), device)
    pixels.largest(heatmap, gaussians(pixels, centres, sigma))
    return heatmap, on_device(weight[..., None].astype(np.float32), device)
