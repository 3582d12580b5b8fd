"""Pictures of SimplePose's maps."""

from __future__ import annotations

import cv2
import numpy as np

from config.systems.simplepose import Channels


def draw_maps(image: np.ndarray, predicted: np.ndarray, target: np.ndarray, channels: Channels) -> np.ndarray:
    """One row: the image, predicted keypoints and limbs, and the same as they should be.

    image (3, H, W) float BGR in [0, 1]; predicted and target (C, h, w). Returns (H, 5 W, 3) uint8 BGR.
    """
    picture = np.clip(image.transpose(1, 2, 0) * 255, 0, 255).astype(np.uint8)
    height, width = picture.shape[:2]
    panels = [picture]
    for maps in (predicted, target):
        for some in (channels.keypoints, channels.limbs):
            strongest = (np.clip(maps[some].max(0, initial=0), 0, 1) * 255).astype(np.uint8)  # a skeleton may have no limbs
            heat = cv2.applyColorMap(cv2.resize(strongest, (width, height)), cv2.COLORMAP_JET)
            panels.append(cv2.addWeighted(picture, 0.4, heat, 0.6, 0))
    return np.hstack(panels)
