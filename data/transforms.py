"""Augmentation: one affine takes image, masks and joints at once; then a colour jitter (paper section 4.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from config import Skeleton
from config.systems.simplepose import AugmentationConfig, SimplePoseConfig

IMAGE_BORDER = (124, 127, 127)  # BGR around the photograph


@dataclass(frozen=True)
class Augmentation:
    """What is drawn by chance for one sample; the defaults change nothing but crop the person."""

    flip: bool = False
    degree: float = 0.0
    shift: tuple[int, int] = (0, 0)  # dx, dy, input pixels
    scale: float = 1.0
    hsv: tuple[int, int, int] = (0, 0, 0)  # hue, saturation, value; OpenCV's 8-bit units


def draw_augmentation(rng: np.random.Generator, settings: AugmentationConfig) -> Augmentation:
    """Draw one sample's augmentation."""
    a = settings
    degree = rng.uniform(-a.rotation, a.rotation)
    scale = rng.uniform(*a.scale) if rng.random() < a.scale_probability else 1.0
    dx, dy = rng.integers(-a.shift, a.shift, 2, endpoint=True)
    flip = rng.random() < a.flip_probability
    jitter = rng.random() < a.hsv_probability
    hsv = tuple(int(rng.integers(low, high, endpoint=True)) if jitter else 0 for low, high in (a.hue, a.saturation, a.value))
    return Augmentation(bool(flip), degree, (int(dx), int(dy)), scale, hsv)


def affine_matrix(
    objpos: tuple[float, float],
    scale_provided: float,
    flip: bool,
    degree: float,
    shift: tuple[int, int],
    scale: float,
    config: SimplePoseConfig,
) -> np.ndarray:
    """(2, 3) from image pixels to input pixels: person's centre to the origin, rotate, scale, flip, then to the input's middle plus shift.

    objpos: the person's box centre, image pixels. scale_provided: its box height / input height. degree: angle in degrees.
    shift: dx, dy in input pixels. scale: factor on top of the one that brings the person to its usual size.
    """
    height, width = config.data.input_size
    factor = config.augmentation.person_size / (scale_provided * height / (height - 1)) * scale
    cos, sin = factor * math.cos(math.radians(degree)), factor * math.sin(math.radians(degree))
    mirror = -1 if flip else 1
    matrix = np.array([[mirror * cos, mirror * sin], [-sin, cos]])
    middle = np.array([width / 2 - 0.5 + shift[0], height / 2 - 0.5 + shift[1]])
    return np.column_stack([matrix, middle - matrix @ np.asarray(objpos, float)])


def warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """(H, W, 3) uint8 to (height, width, 3) uint8 by the affine, bilinear. size: height, width. border: BGR around the image."""
    return _warp_four(cv2.cvtColor(image, cv2.COLOR_BGR2BGRA), matrix, size, border)[0]


def warp_image_and_mask(
    image: np.ndarray, mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """`warp_image`, and with it a mask (H, W) of 0 and 255 to (height, width) uint8, 0 around the image."""
    four = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
    cv2.insertChannel(mask, four, 3)
    return _warp_four(four, matrix, size, border)


def _warp_four(four: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Three channels and the fourth: OpenCV warps four in half the time of three, to the same values."""
    warped = cv2.warpAffine(four, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(*border, 0))
    return cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR), cv2.extractChannel(warped, 3)


def warp_mask(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], stride: int) -> np.ndarray:
    """(H, W) uint8 to (height / stride, width / stride) uint8 by the affine, bilinear, 0 around it; then `at_map_size`.

    size: height, width. Only what the mask reaches is computed: a crop mostly shows a small part of a photograph, often nothing of a mask.
    """
    x, y, width, height = cv2.boundingRect(mask)
    corners = np.array([(column, row) for column in (x - 1, x + width) for row in (y - 1, y + height)]) @ matrix[:, :2].T + matrix[:, 2]
    most = np.array(size[::-1]) // stride
    left, top = np.floor(corners.min(0) / stride).clip(0, most).astype(int)
    right, bottom = np.ceil((corners.max(0) + 1) / stride).clip(0, most).astype(int)
    warped = np.zeros(most[::-1], np.uint8)
    if width and left < right and top < bottom:
        shifted = matrix - [[0, 0, stride * left], [0, 0, stride * top]]
        part = cv2.warpAffine(mask, shifted, (stride * (right - left), stride * (bottom - top)), flags=cv2.INTER_LINEAR)
        warped[top:bottom, left:right] = at_map_size(part, stride)
    return warped


def at_map_size(mask: np.ndarray, stride: int) -> np.ndarray:
    """(height, width) to (height / stride, width / stride), each the mean of the pixels that it stands for."""
    return cv2.resize(mask, (mask.shape[1] // stride, mask.shape[0] // stride), interpolation=cv2.INTER_AREA)


def transform_joints(joints: np.ndarray, matrix: np.ndarray, flip: bool, skeleton: Skeleton) -> np.ndarray:
    """(P, K, 3) x, y, v from image to input pixels; in a mirrored image left and right joints trade places."""
    out = joints.astype(np.float32)
    out[..., :2] = joints[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    return out[:, skeleton.flip_keypoints] if flip else out


def jitter_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """(H, W, 3) uint8 BGR with its colours moved: hue turns round its circle of 180, the others stop at 0 and 255."""
    if not (hue or saturation or value):
        return image
    steps = np.arange(256)
    tables = [(steps + hue) % 180, np.clip(steps + saturation, 0, 255), np.clip(steps + value, 0, 255)]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, 1).astype(np.uint8)[None]), cv2.COLOR_HSV2BGR)
