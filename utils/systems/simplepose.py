"""SimplePose from photographs to people: flip, scale and rotation search (paper section 4.1), then keypoint assignment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.simplepose import SimplePoseConfig
from data.samples.simplepose import SimplePoseSamples
from utils.assignment import assign_people
from utils.assignment.device_maps import assign_people_batch
from utils.pictures.maps import draw_maps, on_image
from utils.systems import People, PoseSystem

Size = tuple[int, int]  # height, width
MapsOnGrid = tuple[Tensor, tuple[float, float]]  # maps (C, h, w), and (sx, sy): image x = (map x + 0.5) * sx - 0.5


class SimplePoseDecoder:
    """People of a batch of photographs."""

    needs_boxes = False

    def __init__(self, network: nn.Module, config: SimplePoseConfig):
        self.network, self.config = network, config

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[People]:
        """images: each (H, W, 3) uint8 BGR -> of each, keypoints (P, K, 3) x, y, score in image pixels, scores (P,)."""
        answers = predict_maps(self.network, images, self.config)
        sizes = [image.shape[:2] for image in images]
        if answers and answers[0][0].device.type != "cpu":
            return assign_on_device(answers, sizes, self.config)
        skeleton, parameters = self.config.skeleton, self.config.assignment
        return [assign_people(maps.numpy(), skeleton, parameters, size, scale) for (maps, scale), size in zip(answers, sizes)]


def assign_on_device(answers: list[MapsOnGrid], sizes: list[Size], config: SimplePoseConfig) -> list[People]:
    """People of each image, those with maps of one size together: what leaves the device is a few kilobytes, not the maps."""
    people: list[People | None] = [None] * len(answers)
    for group in _alike(maps.shape for maps, _ in answers):
        maps, scales = zip(*(answers[n] for n in group))
        of_group = [sizes[n] for n in group]
        found = assign_people_batch(torch.stack(maps), config.skeleton, config.assignment, of_group, list(scales))
        for n, one in zip(group, found):
            people[n] = one
    return people


@torch.inference_mode()
def predict_maps(network: nn.Module, images: Sequence[np.ndarray], config: SimplePoseConfig) -> list[MapsOnGrid]:
    """The maps of the last stage's finest scale, averaged over mirror image, scales and rotations of `config.inference`.

    images: each (H, W, 3) uint8 BGR; those that are padded to one size are run together. Returns of each its maps, float32 on the network's
    device, padding cut off, on the grid of the largest scale. Staying on the maps' own grid, instead of the image's, saves most of the
    time.
    """
    settings, stride = config.inference, config.targets.stride
    sizes = [[resized_size(*image.shape[:2], scale, config) for scale in settings.scales] for image in images]
    totals: list[Tensor | None] = [None] * len(images)
    for degree in settings.rotations:
        turned = [_rotated(image, degree, settings.pad_value) for image in images]
        for s in range(len(settings.scales)):
            for group in _alike(_padded_size(of_image[s], settings.pad_multiple) for of_image in sizes):
                answers = _maps_at(network, [turned[n] for n in group], [sizes[n][s] for n in group], config)
                for n, maps in zip(group, answers):
                    largest = max(sizes[n])
                    if sizes[n][s] != largest or degree % 360:
                        maps = _resampled(maps, sizes[n][s], largest, degree, images[n].shape[:2], stride)
                    totals[n] = maps if totals[n] is None else totals[n].add_(maps)
    runs = len(settings.scales) * len(settings.rotations)
    scales = [(stride * image.shape[1] / max(size)[1], stride * image.shape[0] / max(size)[0]) for image, size in zip(images, sizes)]
    return [(total.div_(runs), scale) for total, scale in zip(totals, scales)]


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


def _maps_at(network: nn.Module, images: list[np.ndarray], sizes: list[Size], config: SimplePoseConfig) -> list[Tensor]:
    """Resize, pad to one size, run with the mirror images, average, cut the padding: (C, ceil(height / stride), ceil(width / stride))."""
    settings, stride = config.inference, config.targets.stride
    padded = np.full((len(images), *_padded_size(sizes[0], settings.pad_multiple), 3), settings.pad_value, np.uint8)
    for canvas, image, (height, width) in zip(padded, images, sizes):
        canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    batch = torch.from_numpy(padded).to(next(network.parameters()).device).permute(0, 3, 1, 2).float().div_(255)
    if settings.flip:
        batch = torch.cat([batch, batch.flip(3)])
    half = settings.precision != "float32"
    with torch.autocast(batch.device.type, getattr(torch, settings.precision) if half else None, enabled=half):
        maps = network.answer(batch)
    maps = maps.float()
    if settings.flip:
        straight, mirrored = maps.chunk(2)
        maps = (straight + mirrored.flip(3)[:, torch.from_numpy(config.channels.flip).to(maps.device)]) / 2
    cut = [(math.ceil(height / stride), math.ceil(width / stride)) for height, width in sizes]
    return [answer[:, :height, :width].clone() for answer, (height, width) in zip(maps, cut)]


def _rotated(image: np.ndarray, degree: float, border: int) -> np.ndarray:
    """The image turned about its centre, counter-clockwise as seen, in its own frame."""
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


def map_pictures(images: Tensor, outputs: list[list[Tensor]], targets: tuple[Tensor, ...], config: SimplePoseConfig) -> list[np.ndarray]:
    """For each image (3, H, W): beside it, predicted keypoints and limbs of the last stage, and the same as they should be."""
    finest, wanted = outputs[-1][0].float().cpu().numpy(), targets[0].cpu().numpy()
    kinds = (config.channels.keypoints, config.channels.limbs)
    return [
        draw_maps(image, [maps[kind] for maps in of_image for kind in kinds])
        for image, *of_image in zip(images.cpu().numpy(), finest, wanted)
    ]


def responses(network: nn.Module, image: np.ndarray, boxes: np.ndarray | None, config: SimplePoseConfig) -> dict[str, np.ndarray]:
    """The strongest keypoint and limb at each pixel of an image (H, W, 3) uint8, as the search averages them: (H, W)."""
    ((maps, (x, y)),) = predict_maps(network, [image], config)
    kinds = {"keypoints": maps[config.channels.keypoints], "limbs": maps[config.channels.limbs]}
    shift = (x - 1) / 2, (y - 1) / 2
    return {
        name: on_image(of_kind.amax(0).cpu().numpy(), (x, y), shift, image.shape[:2]) for name, of_kind in kinds.items() if len(of_kind)
    }


SIMPLEPOSE = PoseSystem(SimplePoseSamples, SimplePoseDecoder, map_pictures, responses)
