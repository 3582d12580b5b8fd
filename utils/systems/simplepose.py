"""SimplePose's decoder: flip, multi-scale and rotation testing (paper section 4.1), then keypoint assignment."""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.simplepose import SimplePoseConfig
from utils.assignment import assign_people
from utils.assignment.torch_heatmaps import assign_people_batch
from utils.batching import group_indices
from utils.device import as_images, in_precision
from utils.predictions import PosePredictions
from utils.preprocess.simplepose import padded_size, resize_and_pad, resized_size
from utils.systems import Decoder, Overlays

Size = tuple[int, int]  # height, width


class Run(NamedTuple):
    """One batch for the network: images at one scale and rotation, padded to one size."""

    sizes: list[Size]  # of each image, without the padding
    degree: float
    pixels: np.ndarray  # (N, h, w, 3) uint8


class ImageMaps(NamedTuple):
    """The averaged maps of one image."""

    maps: Tensor  # (C, h, w) float32
    scale: tuple[float, float]  # (sx, sy): image x = (map x + 0.5) * sx - 0.5
    image_size: Size


class SimplePoseDecoder(Decoder):
    """Decode the people of images that are padded to one size at each scale."""

    output_names = ("maps",)
    config: SimplePoseConfig

    def batch_key(self, image_size: Size) -> Hashable:
        multiple = self.config.inference.pad_multiple
        height, width = image_size
        return tuple(padded_size(resized_size(height, width, scale, self.config), multiple) for scale in self.config.inference.scales)

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> tuple[list[Size], list[Run]]:
        """Return the images' sizes, and the images at every rotation and scale."""
        settings = self.config.inference
        sizes = [[resized_size(image.shape[0], image.shape[1], scale, self.config) for image in images] for scale in settings.scales]
        runs = []
        for degree in settings.rotations:
            rotated = [_rotate(image, degree, settings.pad_value) for image in images]
            runs += [Run(of_scale, degree, resize_and_pad(rotated, of_scale, self.config)) for of_scale in sizes]
        return [image.shape[:2] for image in images], runs

    @torch.inference_mode()
    def forward(self, inputs: tuple[list[Size], list[Run]]) -> list[ImageMaps]:
        """Return each image's maps without padding, averaged over flip, scales and rotations.

        The maps are on the grid of the largest scale. Resizing them to the image, as published, would take most of the time.
        """
        (image_sizes, runs), stride = inputs, self.config.targets.stride
        largest = [max(of_image) for of_image in zip(*(run.sizes for run in runs))]
        totals: list[Tensor | None] = [None] * len(image_sizes)
        for run in runs:
            for n, (size, maps) in enumerate(zip(run.sizes, self._predict(run))):
                if size != largest[n] or run.degree % 360:
                    maps = _resample(maps, size, largest[n], run.degree, image_sizes[n], stride)
                totals[n] = maps if totals[n] is None else totals[n].add_(maps)
        return [
            ImageMaps(total.div_(len(runs)), (stride * size[1] / width, stride * size[0] / height), size)
            for total, size, (height, width) in zip(totals, image_sizes, largest)
        ]

    def _predict(self, run: Run) -> list[Tensor]:
        """Run the network with the flip test and remove the padding: of each image (C, ceil(height / stride), ceil(width / stride))."""
        settings, stride = self.config.inference, self.config.targets.stride
        batch = as_images(run.pixels, next(self.network.parameters()).device)
        if settings.flip:
            batch = torch.cat([batch, batch.flip(3)])
        with in_precision(settings.precision, batch.device):
            maps = self.network.predict(batch)
        maps = maps.float()
        if settings.flip:
            straight, flipped = maps.chunk(2)
            maps = (straight + flipped.flip(3)[:, torch.from_numpy(self.config.channels.flip).to(maps.device)]) / 2
        sizes = [(math.ceil(height / stride), math.ceil(width / stride)) for height, width in run.sizes]
        return [of_image[:, :height, :width].clone() for of_image, (height, width) in zip(maps, sizes)]

    def decode(self, outputs: list[ImageMaps]) -> list[PosePredictions]:
        if outputs[0].maps.device.type != "cpu":
            people = assign_on_device(outputs, self.config)
        else:
            common = self.config.skeleton, self.config.assignment
            people = [assign_people(maps.numpy(), *common, size, scale, *self.config.targets.on_maps) for maps, scale, size in outputs]
        return [PosePredictions(keypoints, scores, self.config.skeleton) for keypoints, scores in people]

    def overlays(self, outputs: list[ImageMaps]) -> list[Overlays]:
        return [self.resized_groups(maps, (x, y), ((x - 1) / 2, (y - 1) / 2), size) for maps, (x, y), size in outputs]

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        """Split off the keypoints, and the limbs if the skeleton has any."""
        channels = self.config.channels
        limbs = {"limbs": heatmaps[channels.limbs]} if self.config.skeleton.num_limbs else {}
        return {"keypoints": heatmaps[channels.keypoints], **limbs}


def assign_on_device(outputs: list[ImageMaps], config: SimplePoseConfig) -> list[tuple[np.ndarray, np.ndarray]]:
    """Assign the people of each image, maps of one size together. A few kilobytes leave the device, not the maps."""
    people: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for group in group_indices(output.maps.shape for output in outputs):
        maps, scales, _ = zip(*(outputs[n] for n in group))
        of_group = assign_people_batch(torch.stack(maps), config.skeleton, config.assignment, list(scales), *config.targets.on_maps)
        people |= zip(group, of_group)
    return [people[n] for n in range(len(outputs))]


def _rotate(image: np.ndarray, degree: float, border: int) -> np.ndarray:
    """Rotate the image counter-clockwise about its center; its size stays."""
    if not degree % 360:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degree, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=(border,) * 3)


def _resample(maps: Tensor, size: Size, grid_size: Size, degree: float, image_size: Size, stride: int) -> Tensor:
    """Resample maps of one scale and rotation to the common grid, bicubic.

    maps (C, h, w) of the image resized to `size` and rotated by `degree`; the grid is that of an image resized to `grid_size`.
    """
    device, (height, width) = maps.device, image_size
    grid = [math.ceil(side / stride) for side in grid_size]
    y = (torch.arange(grid[0], device=device) + 0.5) * (stride * height / grid_size[0]) - height / 2  # image pixels from the center
    x = (torch.arange(grid[1], device=device) + 0.5) * (stride * width / grid_size[1]) - width / 2
    y, x = torch.meshgrid(y, x, indexing="ij")
    cos, sin = math.cos(math.radians(degree)), math.sin(math.radians(degree))
    rotated_x, rotated_y = cos * x + sin * y, cos * y - sin * x
    h, w = maps.shape[1:]
    # grid_sample's units: -1 and 1 are the outer borders of the first and last map pixel
    across = 2 * (rotated_x / width + 0.5) * size[1] / (stride * w) - 1
    down = 2 * (rotated_y / height + 0.5) * size[0] / (stride * h) - 1
    padding = "zeros" if degree % 360 else "border"  # rotation moves the corners out of the image
    return F.grid_sample(maps[None], torch.stack([across, down], 2)[None], "bicubic", padding, align_corners=False)[0]
