"""Pictures of heatmaps."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np


def draw_maps(image: np.ndarray, groups: Iterable[np.ndarray]) -> np.ndarray:
    """One row: the image, then for each group of maps the image under the strongest response of the group.

    image (3, H, W) float BGR in [0, 1]; each group (n, h, w) in [0, 1], n may be 0. Returns (H, W * panels, 3) uint8 BGR.
    """
    picture = np.clip(image.transpose(1, 2, 0) * 255, 0, 255).astype(np.uint8)
    height, width = picture.shape[:2]
    panels = [picture]
    for maps in groups:
        strongest = (np.clip(maps.max(0, initial=0), 0, 1) * 255).astype(np.uint8)
        heat = cv2.applyColorMap(cv2.resize(strongest, (width, height)), cv2.COLORMAP_JET)
        panels.append(cv2.addWeighted(picture, 0.4, heat, 0.6, 0))
    return np.hstack(panels)
