"""Augmentation of all systems' samples; here the photometric part: what photographs are like, from color to occlusion to traces of JPEG.

It is sampled after a system's affine, and what is switched off samples nothing: without it the affine's random numbers stay the same.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from config.systems.augment import AugmentationConfig

NOISE_BANK, NOISE_STD = 2**21, 30  # bytes of noise that all samples take theirs from, and its standard deviation


class OcclusionPatch(NamedTuple):
    """Something in front of a person."""

    keypoint: float  # [0, 1): which of the visible labeled keypoints is in its middle
    corner: tuple[float, float]  # [0, 1): x, y of the part of the image that it shows, unless a person is there
    color: tuple[int, int, int] | None  # BGR, in place of a part of the image
    sides: tuple[float, float]  # width, height, in heights of the person's box


class PhotometricParams(NamedTuple):
    """One sample's photometric augmentation, named as the configuration's keys; the defaults change nothing."""

    hsv: tuple[int, int, int] = (0, 0, 0)  # hue, saturation, value; OpenCV's 8-bit units
    occlusion: OcclusionPatch | None = None
    gamma: float = 1.0
    contrast: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of B, G, R
    grey: bool = False
    blur: float = 0.0  # standard deviation, input pixels
    motion: tuple[float, float] = (0.0, 0.0)  # length in input pixels, direction in degrees
    noise: tuple[float, float] = (0.0, 0.0)  # standard deviation, of 255; 0..1, which part of the noise bank
    jpeg: int = 0  # quality; 0: not compressed


class Augmentation(NamedTuple):
    """One sample's whole augmentation; the defaults change nothing. How an affine is made of it, each system says."""

    rotation: float = 0.0  # degrees
    scale: float = 1.0
    shift: tuple[int, int] = (0, 0)  # dx, dy, pixels
    flip: bool = False
    center_keypoint: float | None = None  # [0, 1): which labeled keypoint is cropped around; None: the usual center
    photometric: PhotometricParams = PhotometricParams()


def sample_photometric(rng: np.random.Generator, settings: AugmentationConfig) -> PhotometricParams:
    """Sample one sample's photometric augmentation."""
    a = settings
    samplers = {
        "hsv": lambda: tuple(int(rng.integers(*limits, endpoint=True)) for limits in (a.hue, a.saturation, a.value)),
        "occlusion": lambda: OcclusionPatch(rng.random(), rng.random(2), _random_color(rng), rng.uniform(*a.occlusion, 2)),
        "gamma": lambda: log_uniform(rng, *a.gamma),
        "contrast": lambda: log_uniform(rng, *a.contrast),
        "cast": lambda: tuple(rng.uniform(1 - a.cast, 1 + a.cast, 3)),
        "grey": lambda: True,
        "blur": lambda: rng.uniform(*a.blur),
        "motion": lambda: (rng.uniform(*a.motion), rng.uniform(0, 180)),
        "noise": lambda: (rng.uniform(*a.noise), rng.random()),
        "jpeg": lambda: int(rng.integers(*a.jpeg, endpoint=True)),
    }
    return PhotometricParams(**{key: sample() for key, sample in samplers.items() if happens(rng, getattr(a, f"{key}_probability"))})


def _random_color(rng: np.random.Generator) -> tuple[int, int, int] | None:
    return tuple(rng.integers(256, size=3).tolist()) if rng.random() < 0.5 else None


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Sample whether something happens; of probability 0 it samples nothing."""
    return probability > 0 and bool(rng.random() < probability)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def apply_occlusion(
    image: np.ndarray, mask_all: np.ndarray, keypoints: np.ndarray, labeled: np.ndarray, heights: np.ndarray, patch: OcclusionPatch
) -> None:
    """Put a patch over a keypoint in the image (H, W, 3) uint8, and out of the mask of all people (H, W), both in place.

    keypoints (P, K, 2) in input pixels and labeled (P, K): of the people that it can be in front of. heights (P,): of their boxes, input
    pixels.
    """
    rows, columns = image.shape[:2]
    person, keypoint = np.nonzero(labeled & (keypoints >= 0).all(-1) & (keypoints < (columns, rows)).all(-1))
    if not len(person):
        return
    number = int(patch.keypoint * len(person))
    (x, y), height = keypoints[person[number], keypoint[number]].tolist(), heights[person[number]]
    w, h = (min(max(round(side * height), 2), most) for side, most in zip(patch.sides, (columns, rows)))
    x0, y0 = round(x - w / 2), round(y - h / 2)
    target = slice(max(y0, 0), min(y0 + h, rows)), slice(max(x0, 0), min(x0 + w, columns))
    h, w = image[target].shape[:2]
    left, top = int(patch.corner[0] * (columns - w + 1)), int(patch.corner[1] * (rows - h + 1))
    source = slice(top, top + h), slice(left, left + w)
    color = patch.color
    if color is None and mask_all[source].any():
        color = image[source].mean((0, 1))
    image[target] = image[source].copy() if color is None else color
    mask_all[target] = 0


def apply_photometric(image: np.ndarray, params: PhotometricParams) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR with everything applied except the patch; the image itself if nothing changes it."""
    if any(params.hsv):
        image = jitter_hsv(image, *params.hsv)
    if (params.gamma, params.contrast, *params.cast) != (1.0,) * 5:
        image = apply_tone_curve(image, params.gamma, params.contrast, params.cast)
    if params.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if params.blur:
        image = cv2.GaussianBlur(image, (0, 0), params.blur)
    if params.motion[0] > 1:
        image = cv2.filter2D(image, -1, motion_blur_kernel(*params.motion))
    if params.noise[0]:
        image = add_noise(image, *params.noise)
    if params.jpeg:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, params.jpeg])[1], cv2.IMREAD_COLOR)
    return image


def jitter_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """Return (H, W, 3) uint8 BGR with its colors shifted: hue wraps around at 180, the others stop at 0 and 255."""
    steps = np.arange(256)
    tables = [(steps + hue) % 180, np.clip(steps + saturation, 0, 255), np.clip(steps + value, 0, 255)]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, 1).astype(np.uint8)[None]), cv2.COLOR_HSV2BGR)


def apply_tone_curve(image: np.ndarray, gamma: float, contrast: float, cast: tuple[float, float, float]) -> np.ndarray:
    """Return (H, W, 3) uint8 with brightness to the power of gamma, spread about its mean, and a factor for each of B, G and R."""
    curve = (np.arange(256) / 255) ** gamma * 255
    middle = curve[round(sum(cv2.mean(image)[:3]) / 3)]
    tables = (middle + (curve - middle) * contrast)[:, None] * cast
    return cv2.LUT(image, np.clip(np.round(tables), 0, 255).astype(np.uint8)[None])


def motion_blur_kernel(length: float, degrees: float) -> np.ndarray:
    """Return (k, k) float32, the kernel of a straight motion of `length` pixels; its sum is 1."""
    angle, reach = math.radians(degrees), (length - 1) / 2
    cells = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
    steps = np.linspace(-reach, reach, 4 * len(cells))[:, None]
    rows, columns = (np.maximum(1 - np.abs(cells - steps * along), 0) for along in (-math.sin(angle), math.cos(angle)))
    return (rows.T @ columns / len(steps)).astype(np.float32)


def add_noise(image: np.ndarray, std: float, offset: float) -> np.ndarray:
    """Return (H, W, 3) uint8 with Gaussian noise of a standard deviation; offset, 0..1, selects the noise."""
    bank = _noise_bank()
    start, factor = int(offset * (len(bank) - 1)) % max(len(bank) - image.size, 1), std / NOISE_STD
    return cv2.addWeighted(image, 1.0, np.resize(bank[start : start + image.size], image.shape), factor, -128 * factor)


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Return (NOISE_BANK,) uint8 around 128: new noise for each sample would take more time than all the rest."""
    return np.clip(np.random.default_rng(0).normal(128, NOISE_STD, NOISE_BANK), 0, 255).round().astype(np.uint8)
