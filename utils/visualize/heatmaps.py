"""Pictures of heatmaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np


def draw_heatmaps(image: np.ndarray, groups: Iterable[np.ndarray]) -> np.ndarray:
    """One row: the image, then for each group of maps the image under the strongest response of the group.

    image (3, H, W) float BGR in [0, 1]; each group (n, h, w) in [0, 1], n may be 0. Returns (H, W * panels, 3) uint8 BGR.
    """
    picture = np.clip(image.transpose(1, 2, 0) * 255, 0, 255).astype(np.uint8)
    return np.hstack([picture, *(overlay_heatmap(picture, maps.max(0, initial=0)) for maps in groups)])


def overlay_heatmap(picture: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) uint8 BGR under the colours of a response (h, w) in [0, 1]."""
    height, width = picture.shape[:2]
    strength = (np.clip(response, 0, 1) * 255).astype(np.uint8)
    heat = cv2.applyColorMap(cv2.resize(strength, (width, height)), cv2.COLORMAP_JET)
    return cv2.addWeighted(picture, 0.4, heat, 0.6, 0)


def resize_to_image(response: np.ndarray, scale: tuple[float, float], shift: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """A response (h, w) on the pixels of an image of `size` height, width: (H, W), 0 where it does not reach.

    The image's x is the map's times scale x, plus shift x; y the same.
    """
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], float)
    return cv2.warpAffine(np.ascontiguousarray(response, np.float32), matrix, size[::-1], flags=cv2.INTER_LINEAR)


def draw_overlays(picture: np.ndarray, image: np.ndarray, responses: Mapping[str, np.ndarray]) -> np.ndarray:
    """A sheet: the picture, then the image under each response, with its name; below each other where they are wide.

    picture, image (H, W, 3) uint8 BGR; responses (H, W) in [0, 1].
    """
    height, width = image.shape[:2]
    size = max(height / 600, 0.4)
    panels = [picture]
    for name, response in responses.items():
        panel = overlay_heatmap(image, response)
        place = round(10 * size), round(30 * size)
        cv2.putText(panel, name, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(1, round(2 * size)), cv2.LINE_AA)
        panels.append(panel)
    return np.vstack(panels) if width > 1.6 * height else np.hstack(panels)
