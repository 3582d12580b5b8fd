"""SimplePose from photographs to people: flip, scale and rotation search (paper section 4.1), then keypoint assignment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.simplepose import SimplePoseConfig
from utils.assignment import assign_people
from utils.assignment.torch_heatmaps import assign_people_batch
from utils.device import as_images, in_precision
from utils.systems import Decoder, Overlays, PosePredictions
from utils.visualize.heatmaps import resize_to_image

Size = tuple[int, int]  # height, width
MapsOnGrid = tuple[Tensor, tuple[float, float]]  # maps (C, h, w), and (sx, sy): image x = (map x + 0.5) * sx - 0.5


@dataclass(frozen=True)
class Run:
    """What the network sees at once: images at one scale and rotation that are padded to one size."""

    numbers: list[int]  # of the images
    sizes: list[Size]  # of each, without the padding
    degree: float
    pixels: np.ndarray  # (N, h, w, 3) uint8


@dataclass(frozen=True)
class Inputs:
    """All runs of a batch."""

    image_sizes: list[Size]
    largest: list[Size]  # of each image, at the largest scale
    runs: list[Run]


class SimplePoseDecoder(Decoder):
    """People of a batch of photographs."""

    output_names = ("maps",)
    config: SimplePoseConfig

    def batch_key(self, image_size: Size) -> Hashable:
        multiple = self.config.inference.pad_multiple
        return tuple(_padded_size(resized_size(*image_size, scale, self.config), multiple) for scale in self.config.inference.scales)

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> Inputs:
        return inputs_of(images, self.config)

    def forward(self, inputs: Inputs) -> tuple[list[MapsOnGrid], list[Size]]:
        return run_network(self.network, inputs, self.config), inputs.image_sizes

    def decode(self, outputs: tuple[list[MapsOnGrid], list[Size]]) -> list[PosePredictions]:
        answers, sizes = outputs
        if answers and answers[0][0].device.type != "cpu":
            return assign_on_device(answers, self.config)
        skeleton, parameters, rendered = self.config.skeleton, self.config.assignment, self.config.targets.on_maps
        return [assign_people(maps.numpy(), skeleton, parameters, size, scale, *rendered) for (maps, scale), size in zip(answers, sizes)]

    def overlays(self, outputs: tuple[list[MapsOnGrid], list[Size]]) -> list[Overlays]:
        return [
            {
                name: resize_to_image(group.amax(0).cpu().numpy(), (x, y), ((x - 1) / 2, (y - 1) / 2), size)
                for name, group in self.groups(maps).items()
            }
            for (maps, (x, y)), size in zip(*outputs)
        ]

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        """Keypoints, and limbs where the skeleton has any."""
        channels = self.config.channels
        limbs = {"limbs": heatmaps[channels.limbs]} if self.config.skeleton.num_limbs else {}
        return {"keypoints": heatmaps[channels.keypoints], **limbs}


def assign_on_device(answers: list[MapsOnGrid], config: SimplePoseConfig) -> list[PosePredictions]:
    """People of each image, those with maps of one size together: what leaves the device is a few kilobytes, not the maps."""
    people: list[PosePredictions | None] = [None] * len(answers)
    for group in _alike(maps.shape for maps, _ in answers):
        maps, scales = zip(*(answers[n] for n in group))
        found = assign_people_batch(torch.stack(maps), config.skeleton, config.assignment, list(scales), *config.targets.on_maps)
        for n, one in zip(group, found):
            people[n] = one
    return people


def predict_maps(network: nn.Module, images: Sequence[np.ndarray], config: SimplePoseConfig) -> list[MapsOnGrid]:
    """The maps of the last stage's finest scale, averaged over mirror image, scales and rotations of `config.inference`.

    images: each (H, W, 3) uint8 BGR; those that are padded to one size are run together. Returns of each its maps, float32 on the network's
    device, padding cut off, on the grid of the largest scale. Staying on the maps' own grid, instead of the image's, saves most of the
    time.
    """
    return run_network(network, inputs_of(images, config), config)


def inputs_of(images: Sequence[np.ndarray], config: SimplePoseConfig) -> Inputs:
    """Each image (H, W, 3) uint8 at every scale and rotation, those that are padded to one size together."""
    settings = config.inference
    sizes = [[resized_size(*image.shape[:2], scale, config) for scale in settings.scales] for image in images]
    runs = []
    for degree in settings.rotations:
        turned = [_rotated(image, degree, settings.pad_value) for image in images]
        for s in range(len(settings.scales)):
            for group in _alike(_padded_size(of_image[s], settings.pad_multiple) for of_image in sizes):
                of_group = [sizes[n][s] for n in group]
                runs.append(Run(group, of_group, degree, _padded([turned[n] for n in group], of_group, config)))
    return Inputs([image.shape[:2] for image in images], [max(of_image) for of_image in sizes], runs)


@torch.inference_mode()
def run_network(network: nn.Module, inputs: Inputs, config: SimplePoseConfig) -> list[MapsOnGrid]:
    """What `predict_maps` returns."""
    stride = config.targets.stride
    totals: list[Tensor | None] = [None] * len(inputs.image_sizes)
    for run in inputs.runs:
        for n, size, maps in zip(run.numbers, run.sizes, _maps_of(network, run, config)):
            if size != inputs.largest[n] or run.degree % 360:
                maps = _resampled(maps, size, inputs.largest[n], run.degree, inputs.image_sizes[n], stride)
            totals[n] = maps if totals[n] is None else totals[n].add_(maps)
    count = len(config.inference.scales) * len(config.inference.rotations)
    scales = [(stride * size[1] / largest[1], stride * size[0] / largest[0]) for size, largest in zip(inputs.image_sizes, inputs.largest)]
    return [(total.div_(count), scale) for total, scale in zip(totals, scales)]


def _alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """Numbers of equal keys together."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        groups[key].append(number)
    return list(groups.values())


def resized_size(height: int, width: int, scale: float, config: SimplePoseConfig) -> Size:
    """Height and width at which an image is run: `scale` times the input height, unless a side passes `inference.max_size`."""
    max_height, max_width = config.inference.max_size
    factor = min(scale * config.data.input_size[0] / height, max_height / height, max_width / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _padded_size(size: Size, multiple: int) -> Size:
    return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple


def _padded(images: list[np.ndarray], sizes: list[Size], config: SimplePoseConfig) -> np.ndarray:
    """(N, h, w, 3) uint8: images resized to the sizes, padded to one."""
    settings = config.inference
    padded = np.full((len(images), *_padded_size(sizes[0], settings.pad_multiple), 3), settings.pad_value, np.uint8)
    for canvas, image, (height, width) in zip(padded, images, sizes):
        canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return padded


def _maps_of(network: nn.Module, run: Run, config: SimplePoseConfig) -> list[Tensor]:
    """Run with the mirror images, average, cut the padding: of each image (C, ceil(height / stride), ceil(width / stride))."""
    settings, stride = config.inference, config.targets.stride
    batch = as_images(run.pixels, next(network.parameters()).device)
    if settings.flip:
        batch = torch.cat([batch, batch.flip(3)])
    with in_precision(settings.precision, batch.device):
        maps = network.predict(batch)
    maps = maps.float()
    if settings.flip:
        straight, mirrored = maps.chunk(2)
        maps = (straight + mirrored.flip(3)[:, torch.from_numpy(config.channels.flip).to(maps.device)]) / 2
    cut = [(math.ceil(height / stride), math.ceil(width / stride)) for height, width in run.sizes]
    return [answer[:, :height, :width].clone() for answer, (height, width) in zip(maps, cut)]


def _rotated(image: np.ndarray, degree: float, border: int) -> np.ndarray:
    """The image turned about its center, counter-clockwise as seen, in its own frame."""
    if not degree % 360:
        return image
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degree, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=(border,) * 3)


def _resampled(maps: Tensor, size: Size, grid_size: Size, degree: float, image_size: Size, stride: int) -> Tensor:
    """Maps of one scale and rotation brought to the common grid, cubic.

    maps (C, h, w) of the image run at `size`; the grid is that of an image run at `grid_size`; degree: how far the image was turned.
    """
    device, (height, width) = maps.device, image_size
    grid = [math.ceil(side / stride) for side in grid_size]
    y = (torch.arange(grid[0], device=device) + 0.5) * (stride * height / grid_size[0]) - height / 2  # image pixels from the center
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
