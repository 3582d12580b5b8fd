"""DEKR's input: the image resized by one of its sides, with black borders; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from utils.oks import oks_nms

if TYPE_CHECKING:
    from config.systems.dekr import DekrConfig

Size = tuple[int, int]  # height, width


def input_size(image_size: Size, scale: float, config: DekrConfig) -> Size:
    """Return the input's height and width: the short side as configured, the long side rounded up, both times the scale.

    With `inference.side` long: the long side as configured times the scale, and the short one in proportion, without padding.
    """
    multiple = config.inference.pad_multiple
    if config.inference.side == "long":
        height, width = (max(1, round(config.data.input_size[0] * scale * side / max(image_size))) for side in image_size)
        return height, width
    short = -(-config.data.input_size[0] // multiple) * multiple
    image_short, image_long = sorted(image_size)
    if config.inference.exact_resize:
        long = -(-short * image_long // (image_short * multiple)) * multiple
    else:  # as published, less than a pixel above a multiple counts as the multiple
        long = int((short / image_short * image_long + multiple - 1) // multiple * multiple)
    sides = int(short * scale), int(long * scale)
    return sides if image_size[0] < image_size[1] else sides[::-1]


def input_matrix(image_size: Size, size: Size, exact: bool = False) -> np.ndarray:
    """Return the affine (2, 3) from image pixels to those of an input of `size`: the short sides fit, the centers coincide.

    exact: False rounds the image's center to whole pixels, as published.
    """
    factor = min(size) / min(image_size)
    y, x = (side / 2 if exact else int(side / 2 + 0.5) for side in image_size)
    return np.array([[factor, 0, size[1] / 2 - factor * x], [0, factor, size[0] / 2 - factor * y]])


def to_image(points: np.ndarray, image_size: Size, config: DekrConfig) -> np.ndarray:
    """Transform points (..., 2) from pixels of scale 1's input to image pixels; with `inference.side` long both from the corner."""
    size = input_size(image_size, 1.0, config)
    if config.inference.side == "long":
        return points * (np.array(image_size) / size)[::-1]
    matrix = input_matrix(image_size, size, config.inference.exact_resize)
    return (points - matrix[:, 2]) / matrix[0, 0]


def as_input(images: Sequence[np.ndarray], scale: float, config: DekrConfig) -> np.ndarray:
    """Warp images of one input size, each (H, W, 3) uint8, to the network's input (N, h, w, 3) uint8 at a scale, with black borders.

    Pads right and below to multiples of `model.input_multiple`. With `inference.side` long the image's upper left corner is the input's.
    """
    size, multiple = input_size(images[0].shape[:2], scale, config), config.model.input_multiple
    padded = np.zeros((len(images), *(-(-side // multiple) * multiple for side in size), 3), np.uint8)
    for canvas, image in zip(padded, images):
        if config.inference.side == "long":
            smaller = max(size) < max(image.shape)
            resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        else:
            matrix = input_matrix(image.shape[:2], input_size(image.shape[:2], scale, config), config.inference.exact_resize)
            resized = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
        canvas[: size[0], : size[1]] = resized
    return padded


def merge_by_oks(
    of_scales: Sequence[tuple[np.ndarray, np.ndarray]], scales: Sequence[float], image_size: Size, config: DekrConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the poses of one image at all scales, keypoints (P, K, 3) and scores (P,): of those with a high OKS only the best remains.

    Ignores people smaller than `inference.min_person_size` at a scale, except at the largest: a larger one shows them better (Singh and
    Davis, SNIP, CVPR 2018).
    """
    keypoints, scores = (np.concatenate(of_scale) for of_scale in zip(*of_scales))
    areas = np.ptp(keypoints[..., :2], axis=1).prod(1)
    limits = [config.inference.min_person_size * max(image_size) / max(input_size(image_size, scale, config)) for scale in scales]
    limits = np.where(np.array(scales) < max(scales), limits, 0)
    large = areas >= np.repeat(np.square(limits), [len(of_scale) for _, of_scale in of_scales])
    keypoints, scores, areas = keypoints[large], scores[large], areas[large]
    sigmas = np.array([config.skeleton.sigmas[name] for name in config.skeleton.keypoints])
    selected = oks_nms(keypoints, areas, scores, sigmas, config.inference.nms_oks)[: config.inference.max_people]
    return keypoints[selected], scores[selected]
