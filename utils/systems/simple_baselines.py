"""Simple Baselines from boxes in photographs to people (paper section 3.1): crops, flip, the highest pixel and where between pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from config.systems.simple_baselines import SimpleBaselinesConfig
from data.datasets.simple_baselines import center_and_crop_size
from data.transforms import crop_matrix
from utils.device import as_images, in_precision
from utils.oks import oks_nms
from utils.systems import Decoder, Overlays, PosePredictions
from utils.visualize.heatmaps import resize_to_image

ROWS = 4  # of a map that are looked through together, where its height is a multiple of them
LEAST_RESPONSE = 1e-6  # less has no logarithm worth looking at
Subpixel = Literal["parabola", "quarter"]


@dataclass(frozen=True)
class Crops:
    """The boxes of a batch of images, one image's after the other's, and what the network sees in them."""

    image_sizes: list[tuple[int, int]]  # height, width
    counts: list[int]  # of each image
    centers: np.ndarray  # (P, 2) x, y, and ...
    sizes: np.ndarray  # ... (P, 2) width, height of the crops in image pixels
    scores: np.ndarray  # (P,) of the boxes
    pixels: list[np.ndarray]  # (up to inference.crops, h, w, 3) uint8


class SimpleBaselinesDecoder(Decoder):
    """People of a batch of photographs, in the boxes that are named: nobody where a box has no area or lies outside the image, and one
    person where several boxes found the same."""

    needs_boxes = True
    fixed_input_size = True
    config: SimpleBaselinesConfig

    def __init__(self, network: nn.Module, config: SimpleBaselinesConfig):
        super().__init__(network, config)
        self.sigmas = np.array([config.skeleton.sigmas[name] for name in config.skeleton.keypoints])

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> Crops:
        usable = [valid_boxes(of_image, image.shape[:2]) for image, of_image in zip(images, boxes)]
        counts = [len(of_image) for of_image in usable]
        everybody = np.concatenate([np.zeros((0, 5)), *usable])
        centers, sizes = center_and_crop_size(everybody[:, :4], self.config.data.input_size)
        image_of = np.repeat(np.arange(len(images)), counts)
        parts = self._parts(len(everybody))
        pixels = [cut(images, image_of[part], centers[part], sizes[part], self.config.data.input_size) for part in parts]
        return Crops([image.shape[:2] for image in images], counts, centers, sizes, everybody[:, 4], pixels)

    def forward(self, inputs: Crops) -> tuple[Crops, list[Tensor]]:
        """Beside the heatmaps (P, K, h / 4, w / 4) of each part the crops without their pixels."""
        return replace(inputs, pixels=[]), [predict_maps(self.network, pixels, self.config) for pixels in inputs.pixels]

    def decode(self, outputs: tuple[Crops, list[Tensor]]) -> list[PosePredictions]:
        crops, heatmaps = outputs
        keypoints = np.zeros((len(crops.scores), self.config.skeleton.num_keypoints, 3), np.float32)
        for part, of_part in zip(self._parts(len(keypoints)), heatmaps):
            keypoints[part] = decode(of_part, crops.centers[part], crops.sizes[part], self.config.inference.subpixel)
        return [self._score_and_nms(keypoints[rows], crops.sizes[rows], crops.scores[rows]) for rows in self._rows(crops)]

    def overlays(self, outputs: tuple[Crops, list[Tensor]]) -> list[Overlays]:
        """Of all boxes of an image over each other."""
        crops, heatmaps = outputs
        strongest = [response for part in heatmaps for response in part.amax(1).cpu().numpy()]
        overlays = []
        for size, rows in zip(crops.image_sizes, self._rows(crops)):
            overlay = np.zeros(size, np.float32)
            for row in rows:
                scale = crops.sizes[row] / strongest[row].shape[::-1]
                corner = crops.centers[row] - crops.sizes[row] / 2
                overlay = np.maximum(overlay, resize_to_image(strongest[row], tuple(scale), tuple(corner), size))
            overlays.append({"keypoints": overlay})
        return overlays

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        return {"keypoints": heatmaps}

    @staticmethod
    def _rows(crops: Crops) -> list[np.ndarray]:
        """Of each image the numbers of its boxes."""
        return np.split(np.arange(len(crops.scores)), np.cumsum(crops.counts, dtype=int))[:-1]

    def _parts(self, boxes: int) -> list[slice]:
        """Those that the network sees together."""
        most = self.config.inference.crops
        return [slice(start, start + most) for start in range(0, boxes, most)]

    def _score_and_nms(self, keypoints: np.ndarray, sizes: np.ndarray, box_scores: np.ndarray) -> PosePredictions:
        """Scores (P,), and of those who are one person the best."""
        settings = self.config.inference
        scores = person_scores(keypoints[..., 2], box_scores, settings.keypoint_threshold)
        kept = oks_nms(keypoints, sizes.prod(1), scores, self.sigmas, settings.nms_threshold)
        keypoints, scores = keypoints[kept], scores[kept]
        return np.where(keypoints[..., 2:] > 0, keypoints, 0), scores


def valid_boxes(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """(B, 4) x, y, width, height or (B, 5) with scores -> (B', 5) those that have an area inside an image of height, width."""
    boxes = np.asarray(boxes, float)
    boxes = boxes.reshape(len(boxes), -1) if len(boxes) else np.zeros((0, 5))
    if boxes.shape[1] == 4:
        boxes = np.column_stack([boxes, np.ones(len(boxes))])
    height, width = image_size
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]
    return boxes[(boxes[:, 2:4] > 0).all(1) & (low < (width, height)).all(1) & (high > 0).all(1)]


def person_scores(responses: np.ndarray, box_scores: np.ndarray, threshold: float) -> np.ndarray:
    """(P,) each one's box score (P,) times the mean of the responses (P, K) above the threshold; 0 where none is."""
    counted = responses > threshold
    return box_scores * (responses * counted).sum(1) / counted.sum(1).clip(1)


def cut(
    images: Sequence[np.ndarray], image_of: np.ndarray, centers: np.ndarray, sizes: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """(P, h, w, 3) uint8: crops of the images whose numbers are `image_of` (P,); centers and sizes (P, 2) in image pixels."""
    crops = np.zeros((len(centers), *input_size, 3), np.uint8)
    for crop, number, center, size in zip(crops, image_of, centers, sizes):
        cv2.warpAffine(images[number], crop_matrix(center, size[0], input_size), input_size[::-1], crop, flags=cv2.INTER_LINEAR)
    return crops


@torch.inference_mode()
def predict_maps(network: nn.Module, crops: np.ndarray, config: SimpleBaselinesConfig) -> Tensor:
    """(P, h, w, 3) uint8 BGR -> heatmaps (P, K, h / 4, w / 4) on the network's device, averaged with the mirror images'."""
    settings, device = config.inference, next(network.parameters()).device
    batch = as_images(crops, device)
    with in_precision(settings.precision, device):
        maps = network.predict(torch.cat([batch, batch.flip(3)]) if settings.flip else batch).float()
    return average_flip(maps, config) if settings.flip else maps


def average_flip(maps: Tensor, config: SimpleBaselinesConfig) -> Tensor:
    """Heatmaps (2 P, K, h, w) of P crops and then their mirror images -> (P, K, h, w); as published the mirror image's are moved one column
    to the right, which their pixels lie too far left."""
    straight, mirrored = maps.chunk(2)
    mirrored = mirrored.flip(3)[:, torch.from_numpy(config.skeleton.flip_keypoints).to(maps.device)]
    return (straight + torch.cat([mirrored[..., :1], mirrored[..., :-1]], 3)) / 2


@torch.inference_mode()
def decode(heatmaps: Tensor | np.ndarray, centers: np.ndarray, sizes: np.ndarray, subpixel: Subpixel = "quarter") -> np.ndarray:
    """Where each heatmap is highest, in the image that the crops were cut from.

    heatmaps (P, K, h, w); centers x, y and sizes width, height (P, 2) of the crops in image pixels. subpixel: a quarter of a pixel towards
    the higher neighbor, as published, or the top of the parabola through the logarithms of a pixel and its neighbors, which for a
    Gaussian is its middle. Returns keypoints (P, K, 3) x, y, response, float32; a response may be 0 or less.
    """
    heatmaps = torch.as_tensor(heatmaps).float()
    height, width = heatmaps.shape[2:]
    pixels = math.gcd(height, ROWS) * width
    blocks = heatmaps.flatten(2).unflatten(2, (-1, pixels))  # a search for the place among all pixels takes several times as long
    response, block = blocks.amax(3).max(2)
    within = blocks.gather(2, block[..., None, None].expand(-1, -1, 1, pixels)).argmax(3)[..., 0]
    place = block * pixels + within
    x, y = place % width, place // width
    shifts = _shifts(heatmaps.flatten(2), x, y, (height, width), subpixel) * (response > 0)
    found = torch.stack([x + shifts[0], y + shifts[1], response], 2).cpu().numpy()
    scale = np.asarray(sizes)[:, None, :1] / width  # only the width decides it
    found[..., :2] = (found[..., :2] - (width / 2, height / 2)) * scale + np.asarray(centers)[:, None]
    return found


def _shifts(flat: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], subpixel: Subpixel) -> Tensor:
    """(2, P, K) how far to the right and down of its highest pixel x, y (P, K) each map is highest. flat (P, K, h w)."""
    height, width = size

    def at(x: Tensor, y: Tensor) -> Tensor:
        return flat.gather(2, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1))[..., None])[..., 0]

    left, right, above, below = at(x - 1, y), at(x + 1, y), at(x, y - 1), at(x, y + 1)
    if subpixel == "quarter":
        inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        return torch.stack([right - left, below - above]).sign() * 0.25 * inside
    top, left, right, above, below = (t.clamp(min=LEAST_RESPONSE).log() for t in (at(x, y), left, right, above, below))
    shifts = []
    for before, after, place, side in ((left, right, x, width), (above, below, y, height)):
        bend = 2 * top - before - after
        shift = torch.where(bend > 0, (after - before) / (2 * bend), 0).clamp(-0.5, 0.5)
        shifts.append(shift * ((place > 0) & (place < side - 1)))
    return torch.stack(shifts)
