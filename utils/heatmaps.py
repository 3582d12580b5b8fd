"""From a photograph to heatmaps: flip, scale and rotation search (paper section 4.1)."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config import Config
from utils.assignment import assign_people
from utils.assignment_torch import assign_people_batch


def estimate_people(network: nn.Module, image: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """image (H, W, 3) uint8 BGR -> keypoints (P, K, 3) x, y, score in image pixels, scores (P,)."""
    maps, map_to_image = predict_maps(network, image, config)
    if maps.device.type != "cpu":  # what leaves the device is a few kilobytes, not the maps
        return assign_people_batch(maps[None], config.skeleton, config.assignment, [image.shape[:2]], [map_to_image])[0]
    return assign_people(maps.numpy(), config.skeleton, config.assignment, image.shape[:2], map_to_image)


@torch.inference_mode()
def predict_maps(network: nn.Module, image: np.ndarray, config: Config) -> tuple[Tensor, tuple[float, float]]:
    """The maps of the last stage's finest scale, averaged over mirror image, scales and rotations of `config.inference`.

    image (H, W, 3) uint8 BGR. Returns maps (C, h, w) float32 on the network's device, padding cut off, on the grid of the largest scale,
    and (sx, sy): image x = (map x + 0.5) * sx - 0.5. Staying on the maps' own grid, instead of the image's, saves most of the time.
    """
    sizes = [resized_size(*image.shape[:2], scale, config) for scale in config.inference.scales]
    stride = config.targets.stride
    height, width = max(sizes)
    grid = (math.ceil(height / stride), math.ceil(width / stride))
    map_to_image = (stride * image.shape[1] / width, stride * image.shape[0] / height)
    total: Tensor | None = None
    for degree in config.inference.rotations:
        turned = _rotated(image, degree, config.inference.pad_value)
        for size in sizes:
            maps = _maps_at(network, turned, size, config)
            if size != (height, width) or degree % 360:
                maps = _resampled(maps, grid, size, (height, width), degree, image.shape[:2], stride)
            total = maps if total is None else total.add_(maps)
    return total.div_(len(sizes) * len(config.inference.rotations)), map_to_image


def resized_size(height: int, width: int, scale: float, config: Config) -> tuple[int, int]:
    """Height and width at which an image is run: `scale` times the input height, unless a side passes `inference.max_size`."""
    max_height, max_width = config.inference.max_size
    factor = min(scale * config.data.input_size[0] / height, max_height / height, max_width / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _maps_at(network: nn.Module, image: np.ndarray, size: tuple[int, int], config: Config) -> Tensor:
    """Resize, pad, run with the mirror image, average, cut the padding: (C, ceil(height / stride), ceil(width / stride))."""
    settings, stride = config.inference, config.targets.stride
    height, width = size
    padded_size = (-(-side // settings.pad_multiple) * settings.pad_multiple for side in size)
    padded = np.full((*padded_size, 3), settings.pad_value, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    parameter = next(network.parameters())
    images = torch.from_numpy(padded).to(parameter.device).permute(2, 0, 1)[None].float().div_(255)
    if settings.flip:
        images = torch.cat([images, images.flip(3)])
    half = settings.precision != "float32"
    with torch.autocast(images.device.type, getattr(torch, settings.precision) if half else None, enabled=half):
        maps = network(images)[-1][0]
    maps = maps.float()
    answer = maps[0]
    if settings.flip:
        channels = torch.from_numpy(config.skeleton.flip_channels).to(maps.device)
        answer = (answer + maps[1].flip(2)[channels]) / 2
    return answer[:, : math.ceil(height / stride), : math.ceil(width / stride)].contiguous()


def _rotated(image: np.ndarray, degree: float, border: int) -> np.ndarray:
    """The image turned about its centre, counter-clockwise as seen, in its own frame."""
    if not degree % 360:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degree, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=(border,) * 3)


def _resampled(
    maps: Tensor,
    grid: tuple[int, int],
    size: tuple[int, int],
    grid_size: tuple[int, int],
    degree: float,
    image_size: tuple[int, int],
    stride: int,
) -> Tensor:
    """Maps of one scale and rotation brought to the common grid, cubic.

    maps (C, h, w) of the image run at `size`; the grid (height, width) is that of `grid_size`; degree: how far the image was turned.
    """
    device, (height, width) = maps.device, image_size
    y = (torch.arange(grid[0], device=device) + 0.5) * (stride * height / grid_size[0]) - height / 2  # image pixels from the centre
    x = (torch.arange(grid[1], device=device) + 0.5) * (stride * width / grid_size[1]) - width / 2
    y, x = torch.meshgrid(y, x, indexing="ij")
    cos, sin = math.cos(math.radians(degree)), math.sin(math.radians(degree))
    turned_x, turned_y = cos * x + sin * y, cos * y - sin * x
    h, w = maps.shape[1:]
    # grid_sample's own units: -1 and 1 are the outer borders of the first and last map pixel
    across = 2 * (turned_x / width + 0.5) * size[1] / (stride * w) - 1
    down = 2 * (turned_y / height + 0.5) * size[0] / (stride * h) - 1
    padding = "zeros" if degree % 360 else "border"  # what a turned image lost has no answer
    return F.grid_sample(maps[None], torch.stack([across, down], 2)[None], "bicubic", padding, align_corners=False)[0]
