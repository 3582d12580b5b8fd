"""What Simple Baselines' network should answer: a heatmap of each keypoint of one person (paper section 2)."""

from __future__ import annotations

import numpy as np

from config.systems.simple_baselines import STRIDE, SimpleBaselinesConfig

REACH = 3  # sigmas that a drawn Gaussian goes to each side


def render_targets(
    joints: np.ndarray, labelled: np.ndarray, input_size: tuple[int, int], config: SimpleBaselinesConfig
) -> tuple[np.ndarray, np.ndarray]:
    """joints (K, 2) x, y in input pixels, labelled (K,) above 0 where they are -> heatmap (K, h, w) in [0, 1] and weight (K, 1), float32.

    A Gaussian stands on the whole map pixel that is nearest to its joint. A joint whose Gaussian lies outside the map has weight 0.
    """
    height, width = input_size[0] // STRIDE, input_size[1] // STRIDE
    sigma = config.targets.sigma
    reach = int(REACH * sigma)
    step = np.arange(-reach, reach + 1)
    bell = np.exp(-(step[:, None] ** 2 + step**2) / (2 * sigma**2)).astype(np.float32)
    middles = (joints / STRIDE + 0.5).astype(int)
    seen = (middles >= -reach).all(1) & (middles < np.array([width, height]) + reach).all(1)
    weight = ((labelled > 0) & seen).astype(np.float32)
    heatmap = np.zeros((len(joints), height, width), np.float32)
    for k in np.flatnonzero(weight):
        left, top = middles[k] - reach
        (x0, x1), (y0, y1) = (max(left, 0), min(left + len(step), width)), (max(top, 0), min(top + len(step), height))
        heatmap[k, y0:y1, x0:x1] = bell[y0 - top : y1 - top, x0 - left : x1 - left]
    return heatmap, weight[:, None]
