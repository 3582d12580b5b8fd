"""Augmentation: one affine takes image, masks and joints at once; then a colour jitter (paper section 4.1).

What photographs are like beyond that, from occlusion to JPEG's traces, is drawn as a `Look`, after everything else: without it, the rest
is drawn as ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from config.systems.simplepose import AugmentationConfig, SimplePoseConfig

IMAGE_BORDER = (124, 127, 127)  # BGR around the photograph


GRAIN, GRAIN_SPREAD = 2**21, 30  # bytes of noise that all samples take theirs from, and its standard deviation


@dataclass(frozen=True)
class Patch:
    """Something in front of the main person."""

    joint: float  # [0, 1): which of the person's labelled joints is in its middle
    sides: tuple[float, float]  # width, height, in heights of the person's box
    corner: tuple[float, float]  # [0, 1): x, y of the part of the picture that it shows, unless somebody is there
    colour: tuple[int, int, int] | None  # BGR, in place of a part of the picture


@dataclass(frozen=True)
class Look:
    """What is drawn by chance of how a sample looks; the defaults change nothing."""

    patch: Patch | None = None
    gamma: float = 1.0
    contrast: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)  # factors of B, G, R
    grey: bool = False
    blur: float = 0.0  # standard deviation, input pixels
    motion: tuple[float, float] = (0.0, 0.0)  # length in input pixels, direction in degrees
    noise: float = 0.0  # standard deviation, of 255
    grain: float = 0.0  # 0..1: which part of all noise
    jpeg: int = 0  # quality; 0: not compressed


@dataclass(frozen=True)
class Augmentation:
    """What is drawn by chance for one sample; the defaults change nothing but crop the person."""

    flip: bool = False
    degree: float = 0.0
    shift: tuple[int, int] = (0, 0)  # dx, dy, input pixels
    scale: float = 1.0
    hsv: tuple[int, int, int] = (0, 0, 0)  # hue, saturation, value; OpenCV's 8-bit units
    joint: float | None = None  # [0, 1): which of the main person's labelled joints is cropped around, in place of its box's centre
    look: Look = Look()


def draw_augmentation(rng: np.random.Generator, settings: AugmentationConfig) -> Augmentation:
    """Draw one sample's augmentation."""
    a = settings
    degree = rng.uniform(-a.rotation, a.rotation)
    scale = rng.uniform(*a.scale) if rng.random() < a.scale_probability else 1.0
    dx, dy = rng.integers(-a.shift, a.shift, 2, endpoint=True)
    flip = rng.random() < a.flip_probability
    jitter = rng.random() < a.hsv_probability
    hsv = tuple(int(rng.integers(low, high, endpoint=True)) if jitter else 0 for low, high in (a.hue, a.saturation, a.value))
    if _happens(rng, a.wide_scale_probability):
        scale = _log_uniform(rng, *a.wide_scale)
    joint = rng.random() if _happens(rng, a.joint_centre_probability) else None
    return Augmentation(bool(flip), degree, (int(dx), int(dy)), scale, hsv, joint, draw_look(rng, a))


def draw_look(rng: np.random.Generator, settings: AugmentationConfig) -> Look:
    """Draw how one sample looks."""
    a, look = settings, {}
    if _happens(rng, a.occlusion_probability):
        joint, *corner = rng.random(3).tolist()
        colour = tuple(rng.integers(256, size=3).tolist()) if rng.random() < 0.5 else None
        look["patch"] = Patch(joint, tuple(rng.uniform(*a.occlusion, 2).tolist()), tuple(corner), colour)
    if _happens(rng, a.gamma_probability):
        look["gamma"] = _log_uniform(rng, *a.gamma)
    if _happens(rng, a.contrast_probability):
        look["contrast"] = _log_uniform(rng, *a.contrast)
    if _happens(rng, a.cast_probability):
        look["cast"] = tuple(rng.uniform(1 - a.cast, 1 + a.cast, 3).tolist())
    look["grey"] = _happens(rng, a.grey_probability)
    if _happens(rng, a.blur_probability):
        look["blur"] = rng.uniform(*a.blur)
    if _happens(rng, a.motion_probability):
        look["motion"] = rng.uniform(*a.motion), rng.uniform(0, 180)
    if _happens(rng, a.noise_probability):
        look.update(noise=rng.uniform(*a.noise), grain=rng.random())
    if _happens(rng, a.jpeg_probability):
        look["jpeg"] = int(rng.integers(*a.jpeg, endpoint=True))
    return Look(**look)


def _happens(rng: np.random.Generator, probability: float) -> bool:
    """What never happens draws nothing."""
    return probability > 0 and bool(rng.random() < probability)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def affine_matrix(
    objpos: tuple[float, float],
    scale_provided: float,
    flip: bool,
    degree: float,
    shift: tuple[int, int],
    scale: float,
    config: SimplePoseConfig,
) -> np.ndarray:
    """(2, 3) from image pixels to input pixels: objpos to the origin, rotate, scale, flip, then to the input's middle plus shift.

    objpos: the person's box centre, or one of its joints, image pixels. scale_provided: its box height / input height. degree: angle in
    degrees. shift: dx, dy in input pixels. scale: factor on top of the one that brings the person to its usual size.
    """
    height, width = config.data.input_size
    factor = config.augmentation.person_size / (scale_provided * height / (height - 1)) * scale
    cos, sin = factor * math.cos(math.radians(degree)), factor * math.sin(math.radians(degree))
    mirror = -1 if flip else 1
    matrix = np.array([[mirror * cos, mirror * sin], [-sin, cos]])
    middle = np.array([width / 2 - 0.5 + shift[0], height / 2 - 0.5 + shift[1]])
    return np.column_stack([matrix, middle - matrix @ np.asarray(objpos, float)])


def crop_matrix(center: np.ndarray, crop_width: float, output_size: tuple[int, int], rotation: float = 0.0) -> np.ndarray:
    """Return (2, 3) from image pixels to those of an output of height, width: center x, y to its middle, the crop's width to its width.

    rotation: degrees by which the crop is turned, clockwise as seen.
    """
    height, width = output_size
    angle = math.radians(-rotation)
    linear = width / crop_width * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ center])


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points (..., 2) after an affine (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


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


def jitter_hsv(image: np.ndarray, hue: int, saturation: int, value: int) -> np.ndarray:
    """(H, W, 3) uint8 BGR with its colours moved: hue turns round its circle of 180, the others stop at 0 and 255."""
    if not (hue or saturation or value):
        return image
    steps = np.arange(256)
    tables = [(steps + hue) % 180, np.clip(steps + saturation, 0, 255), np.clip(steps + value, 0, 255)]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, 1).astype(np.uint8)[None]), cv2.COLOR_HSV2BGR)


# How a sample looks


def occlude(image: np.ndarray, everyone: np.ndarray, points: np.ndarray, height: float, patch: Patch) -> None:
    """Put a patch over a person in the image (H, W, 3) uint8 and out of the mask of everyone (H, W), both in place.

    points (K, 2): the person's labeled keypoints, input pixels. height: of its box, input pixels.
    """
    rows, columns = image.shape[:2]
    points = points[((points >= 0) & (points < (columns, rows))).all(1)]
    if not len(points):
        return
    x, y = points[int(patch.joint * len(points))].tolist()
    w, h = (min(max(round(side * height), 2), most) for side, most in zip(patch.sides, (columns, rows)))
    x0, y0 = round(x - w / 2), round(y - h / 2)
    place = slice(max(y0, 0), min(y0 + h, rows)), slice(max(x0, 0), min(x0 + w, columns))
    h, w = image[place].shape[:2]
    left, top = int(patch.corner[0] * (columns - w + 1)), int(patch.corner[1] * (rows - h + 1))
    source = slice(top, top + h), slice(left, left + w)
    colour = patch.colour
    if colour is None and everyone[source].any():
        colour = image[source].mean((0, 1))
    image[place] = image[source].copy() if colour is None else colour
    everyone[place] = 0


def changed_look(image: np.ndarray, look: Look) -> np.ndarray:
    """(H, W, 3) uint8 BGR as a look has it, but for its patch; the image itself where it changes nothing."""
    if (look.gamma, look.contrast, *look.cast) != (1.0,) * 5:
        image = changed_tones(image, look.gamma, look.contrast, look.cast)
    if look.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if look.blur:
        image = cv2.GaussianBlur(image, (0, 0), look.blur)
    if look.motion[0] > 1:
        image = cv2.filter2D(image, -1, streak(*look.motion))
    if look.noise:
        image = noisy(image, look.noise, look.grain)
    if look.jpeg:
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])[1], cv2.IMREAD_COLOR)
    return image


def changed_tones(image: np.ndarray, gamma: float, contrast: float, cast: tuple[float, float, float]) -> np.ndarray:
    """(H, W, 3) uint8 with brightness to the power of gamma, spread about its mean, and a factor for each of B, G and R."""
    curve = (np.arange(256) / 255) ** gamma * 255
    middle = curve[round(sum(cv2.mean(image)[:3]) / 3)]
    tables = (middle + (curve - middle) * contrast)[:, None] * cast
    return cv2.LUT(image, np.clip(np.round(tables), 0, 255).astype(np.uint8)[None])


def streak(length: float, degrees: float) -> np.ndarray:
    """(k, k) float32, the kernel of a motion so many pixels long; its sum is 1."""
    angle, reach = math.radians(degrees), (length - 1) / 2
    places = np.arange(-math.ceil(reach), math.ceil(reach) + 1)
    steps = np.linspace(-reach, reach, 4 * len(places))[:, None]
    rows, columns = (np.maximum(1 - np.abs(places - steps * along), 0) for along in (-math.sin(angle), math.cos(angle)))
    return (rows.T @ columns / len(steps)).astype(np.float32)


def noisy(image: np.ndarray, spread: float, grain: float) -> np.ndarray:
    """(H, W, 3) uint8 with Gaussian noise of that standard deviation; grain, 0..1, says which."""
    bank = _noise_bank()
    start = int(grain * (len(bank) - 1)) % max(len(bank) - image.size, 1)
    noise = np.resize(bank[start : start + image.size], image.shape)
    share = spread / GRAIN_SPREAD
    return cv2.addWeighted(image, 1.0, noise, share, -128 * share)


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """(GRAIN,) uint8 around 128: drawing new noise for each sample would take more time than all the rest."""
    return np.clip(np.random.default_rng(0).normal(128, GRAIN_SPREAD, GRAIN), 0, 255).round().astype(np.uint8)
