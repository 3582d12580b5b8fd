"""Draw heatmaps over images."""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np


def draw_heatmaps(image: np.ndarray, groups: Iterable[np.ndarray]) -> np.ndarray:
    """Draw one row: the image, then for each group of heatmaps the image under the group's maximum.

    image (3, H, W) float BGR in [0, 1]; each group (n, h, w) in [0, 1], n may be 0. Returns (H, W * panels, 3) uint8 BGR.
    """
    pixels = np.clip(image.transpose(1, 2, 0) * 255, 0, 255).astype(np.uint8)
    return np.hstack([pixels, *(overlay_heatmap(pixels, maps.max(0, initial=0)) for maps in groups)])


def overlay_heatmap(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Blend the colors of a heatmap (h, w) in [0, 1] over an image (H, W, 3) uint8 BGR."""
    levels = (np.clip(heatmap, 0, 1) * 255).astype(np.uint8)
    colors = cv2.applyColorMap(cv2.resize(levels, image.shape[1::-1]), cv2.COLORMAP_JET)
    return cv2.addWeighted(image, 0.4, colors, 0.6, 0)


def resize_to_image(heatmap: np.ndarray, scale: tuple[float, float], shift: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """Map a heatmap (h, w) to the pixels of an image of `size` height, width: (H, W), 0 outside the heatmap.

    x in the image is scale x times x in the heatmap, plus shift x; y likewise.
    """
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]], float)
    return cv2.warpAffine(np.ascontiguousarray(heatmap, np.float32), matrix, size[::-1], flags=cv2.INTER_LINEAR)


def draw_overlays(people_image: np.ndarray, image: np.ndarray, heatmaps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Place panels side by side, or below each other where they are wide: `people_image`, then `named_overlays`.

    people_image, image (H, W, 3) uint8 BGR; heatmaps (H, W) in [0, 1].
    """
    panels = [people_image, *named_overlays(image, heatmaps)]
    return np.vstack(panels) if image.shape[1] > 1.6 * image.shape[0] else np.hstack(panels)


def named_overlays(image: np.ndarray, heatmaps: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the image (H, W, 3) uint8 BGR under each heatmap (H, W) in [0, 1], with its name."""
    size = max(image.shape[0] / 600, 0.4)
    style = (round(10 * size), round(30 * size)), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), max(1, round(2 * size)), cv2.LINE_AA
    return [cv2.putText(overlay_heatmap(image, heatmap), name, *style) for name, heatmap in heatmaps.items()]
