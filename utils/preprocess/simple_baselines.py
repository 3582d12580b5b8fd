"""Simple Baselines' input: a crop around each person's box."""

from collections.abc import Sequence

import cv2
import numpy as np

from data.transforms import crop_matrix


def valid_boxes(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return (B', 5) x, y, width, height, score: the boxes (B, 4) or (B, 5) with some area inside the image (height, width)."""
    if boxes.shape[1] == 4:
        boxes = np.column_stack([boxes, np.ones(len(boxes))])
    height, width = image_size
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]
    return boxes[(boxes[:, 2:4] > 0).all(1) & (low < (width, height)).all(1) & (high > 0).all(1)]


def person_scores(keypoint_scores: np.ndarray, box_scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return (P,): box score (P,) times the mean of the keypoint scores (P, K) above the threshold, or 0 if none is."""
    counted = keypoint_scores > threshold
    return box_scores * (keypoint_scores * counted).sum(1) / counted.sum(1).clip(1)


def crop_to_image(points: np.ndarray, size: tuple[int, int], centers: np.ndarray, crop_sizes: np.ndarray) -> np.ndarray:
    """Return points (P, K, 2) of crops, or maps of them, of a height and width in image pixels; centers and crop_sizes (P, 2).

    As published, the width sets the scale of both axes.
    """
    return (points - (size[1] / 2, size[0] / 2)) * (crop_sizes[:, None, :1] / size[1]) + centers[:, None]


def crop_boxes(
    images: Sequence[np.ndarray], image_of: np.ndarray, centers: np.ndarray, sizes: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Crop (P, h, w, 3) uint8 from the images with indices `image_of` (P,); centers and sizes (P, 2) in image pixels."""
    crops = np.zeros((len(centers), *input_size, 3), np.uint8)
    for crop, index, center, size in zip(crops, image_of, centers, sizes):
        cv2.warpAffine(images[index], crop_matrix(center, size[0], input_size), input_size[::-1], crop, flags=cv2.INTER_LINEAR)
    return crops
