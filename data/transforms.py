"""Warps: one affine moves image, masks and keypoints together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from config.systems.simplepose import SimplePoseConfig

Size = tuple[int, int]  # height, width
CROP_PADDING = 1.25  # the sides of a top-down system's crop over those of the box


def affine_matrix(
    objpos: tuple[float, float],
    scale_provided: float,
    flip: bool,
    degree: float,
    shift: tuple[int, int],
    scale: float,
    config: SimplePoseConfig,
) -> np.ndarray:
    """Return SimplePose's (2, 3) from image to input pixels: objpos to the origin, rotate, scale, flip, to the input's middle plus shift.

    objpos: the person's box center, or one of its keypoints, image pixels. scale_provided: its box height / input height. degree: angle
    in degrees. shift: dx, dy in input pixels. scale: factor on top of the one that brings the person to its usual size.
    """
    height, width = config.data.input_size
    factor = config.augmentation.person_size / (scale_provided * height / (height - 1)) * scale
    cos, sin = factor * math.cos(math.radians(degree)), factor * math.sin(math.radians(degree))
    mirror = -1 if flip else 1
    matrix = np.array([[mirror * cos, mirror * sin], [-sin, cos]])
    middle = np.array([width / 2 - 0.5 + shift[0], height / 2 - 0.5 + shift[1]])
    return np.column_stack([matrix, middle - matrix @ np.asarray(objpos, float)])


def center_and_crop_size(boxes: np.ndarray, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops' centers (..., 2) x, y and sizes (..., 2) width, height for boxes (..., 4) x, y, width, height.

    A box is extended to the input's aspect ratio and enlarged by CROP_PADDING.
    """
    aspect = input_size[1] / input_size[0]
    width = np.maximum(boxes[..., 2], boxes[..., 3] * aspect)
    return boxes[..., :2] + boxes[..., 2:] / 2, np.stack([width, width / aspect], -1) * CROP_PADDING


def crop_matrix(center: np.ndarray, crop_width: float, output_size: Size, rotation: float = 0.0) -> np.ndarray:
    """Return (2, 3) from image pixels to those of an output: center x, y to its middle, the crop's width to its width.

    rotation: degrees by which the crop is turned, clockwise as seen.
    """
    height, width = output_size
    angle = math.radians(-rotation)
    linear = width / crop_width * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ center])


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points (..., 2) after an affine (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def warp_image(
    image: np.ndarray, mask: np.ndarray | None, matrix: np.ndarray, size: Size, border: tuple[int, int, int] = (0, 0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Warp (H, W, 3) uint8 and a mask (H, W) of 0 and 255, None: everywhere, to `size` by the affine, bilinear.

    border: BGR around the image; the mask is 0 there.
    """
    bgra = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)  # OpenCV warps four channels in half the time of three, to the same values
    if mask is not None:
        cv2.insertChannel(mask, bgra, 3)
    warped = cv2.warpAffine(bgra, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(*border, 0))
    return cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), cv2.extractChannel(warped, 3)


def warp_mask(mask: np.ndarray, matrix: np.ndarray, size: Size, stride: int) -> np.ndarray:
    """Warp (H, W) uint8 to `size` by the affine, bilinear, 0 around it, then `to_map_size`.

    Only what the mask reaches is computed: a crop mostly shows a small part of an image, often nothing of a mask.
    """
    x, y, width, height = cv2.boundingRect(mask)
    corners = transform_points(np.array([(column, row) for column in (x - 1, x + width) for row in (y - 1, y + height)]), matrix)
    map_size = np.array(size[::-1]) // stride
    left, top = np.floor(corners.min(0) / stride).clip(0, map_size).astype(int)
    right, bottom = np.ceil((corners.max(0) + 1) / stride).clip(0, map_size).astype(int)
    warped = np.zeros(map_size[::-1], np.uint8)
    if width and left < right and top < bottom:
        shifted = matrix - [[0, 0, stride * left], [0, 0, stride * top]]
        part = cv2.warpAffine(mask, shifted, (stride * (right - left), stride * (bottom - top)), flags=cv2.INTER_LINEAR)
        warped[top:bottom, left:right] = to_map_size(part, stride)
    return warped


def to_map_size(mask: np.ndarray, stride: int) -> np.ndarray:
    """Average (height, width) over each map pixel to (height / stride, width / stride)."""
    return cv2.resize(mask, (mask.shape[1] // stride, mask.shape[0] // stride), interpolation=cv2.INTER_AREA)
