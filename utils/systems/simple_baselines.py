"""Simple Baselines' decoder (paper section 3.1): crop person boxes, flip test, subpixel heatmap maxima, OKS NMS."""

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

ROWS = 4  # of a heatmap that are searched together, if its height is a multiple
MIN_HEATMAP_VALUE = 1e-6  # lower values are clamped before the logarithm
Subpixel = Literal["parabola", "quarter"]


@dataclass(frozen=True)
class Crops:
    """The boxes of a batch of images, in the order of the images, and their crops."""

    image_sizes: list[tuple[int, int]]  # height, width
    counts: list[int]  # of each image
    centers: np.ndarray  # (P, 2) x, y, and ...
    sizes: np.ndarray  # ... (P, 2) width, height of the crops in image pixels
    scores: np.ndarray  # (P,) of the boxes
    pixels: list[np.ndarray]  # (up to inference.crops, h, w, 3) uint8


class SimpleBaselinesDecoder(Decoder):
    """Decode one person in each given box. Ignores boxes without area inside the image; OKS NMS removes duplicates."""

    needs_boxes = True
    fixed_input_size = True
    config: SimpleBaselinesConfig

    def __init__(self, network: nn.Module, config: SimpleBaselinesConfig):
        super().__init__(network, config)
        self.sigmas = np.array([config.skeleton.sigmas[name] for name in config.skeleton.keypoints])

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> Crops:
        valid = [valid_boxes(of_image, image.shape[:2]) for image, of_image in zip(images, boxes)]
        counts = [len(of_image) for of_image in valid]
        all_boxes = np.concatenate([np.zeros((0, 5)), *valid])
        centers, sizes = center_and_crop_size(all_boxes[:, :4], self.config.data.input_size)
        image_of = np.repeat(np.arange(len(images)), counts)
        chunks = self._chunks(len(all_boxes))
        pixels = [crop_boxes(images, image_of[chunk], centers[chunk], sizes[chunk], self.config.data.input_size) for chunk in chunks]
        return Crops([image.shape[:2] for image in images], counts, centers, sizes, all_boxes[:, 4], pixels)

    @torch.inference_mode()
    def forward(self, inputs: Crops) -> tuple[Crops, list[Tensor]]:
        """Return the crops without their pixels, and of each chunk the heatmaps (P, K, h / 4, w / 4), averaged by the flip test."""
        return replace(inputs, pixels=[]), [self._predict(pixels) for pixels in inputs.pixels]

    def _predict(self, pixels: np.ndarray) -> Tensor:
        settings, device = self.config.inference, next(self.network.parameters()).device
        batch = as_images(pixels, device)
        with in_precision(settings.precision, device):
            maps = self.network.predict(torch.cat([batch, batch.flip(3)]) if settings.flip else batch).float()
        return average_flip(maps, self.config) if settings.flip else maps

    def decode(self, outputs: tuple[Crops, list[Tensor]]) -> list[PosePredictions]:
        crops, heatmaps = outputs
        keypoints = np.zeros((len(crops.scores), self.config.skeleton.num_keypoints, 3), np.float32)
        for chunk, maps in zip(self._chunks(len(keypoints)), heatmaps):
            keypoints[chunk] = decode(maps, crops.centers[chunk], crops.sizes[chunk], self.config.inference.subpixel)
        return [self._score_and_nms(keypoints[rows], crops.sizes[rows], crops.scores[rows]) for rows in self._rows(crops)]

    def overlays(self, outputs: tuple[Crops, list[Tensor]]) -> list[Overlays]:
        """Return the maximum over all boxes of each image."""
        crops, heatmaps = outputs
        strongest = [of_crop for chunk in heatmaps for of_crop in chunk.amax(1).cpu().numpy()]
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
        """Return the indices of each image's boxes."""
        return np.split(np.arange(len(crops.scores)), np.cumsum(crops.counts, dtype=int))[:-1]

    def _chunks(self, boxes: int) -> list[slice]:
        """Split the boxes into batches for the network."""
        size = self.config.inference.crops
        return [slice(start, start + size) for start in range(0, boxes, size)]

    def _score_and_nms(self, keypoints: np.ndarray, sizes: np.ndarray, box_scores: np.ndarray) -> PosePredictions:
        """Score the poses and remove duplicates."""
        settings = self.config.inference
        scores = person_scores(keypoints[..., 2], box_scores, settings.keypoint_threshold)
        selected = oks_nms(keypoints, sizes.prod(1), scores, self.sigmas, settings.nms_threshold)
        keypoints, scores = keypoints[selected], scores[selected]
        return np.where(keypoints[..., 2:] > 0, keypoints, 0), scores


def valid_boxes(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Return (B', 5) x, y, width, height, score: the boxes (B, 4) or (B, 5) with some area inside the image (height, width)."""
    if boxes.shape[1] == 4:
        boxes = np.column_stack([boxes, np.ones(len(boxes))])
    height, width = image_size
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]
    return boxes[(boxes[:, 2:4] > 0).all(1) & (low < (width, height)).all(1) & (high > 0).all(1)]


def person_scores(keypoint_scores: np.ndarray, box_scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return (P,): box score (P,) times the mean of the keypoint scores (P, K) above the threshold, or 0 if none is."""
    counted = keypoint_scores > threshold
    return box_scores * (keypoint_scores * counted).sum(1) / counted.sum(1).clip(1)


def crop_boxes(
    images: Sequence[np.ndarray], image_of: np.ndarray, centers: np.ndarray, sizes: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Crop (P, h, w, 3) uint8 from the images with indices `image_of` (P,); centers and sizes (P, 2) in image pixels."""
    crops = np.zeros((len(centers), *input_size, 3), np.uint8)
    for crop, index, center, size in zip(crops, image_of, centers, sizes):
        cv2.warpAffine(images[index], crop_matrix(center, size[0], input_size), input_size[::-1], crop, flags=cv2.INTER_LINEAR)
    return crops


def average_flip(maps: Tensor, config: SimpleBaselinesConfig) -> Tensor:
    """Average the heatmaps (2 P, K, h, w) of P crops and then their flipped ones: (P, K, h, w).

    As published, the flipped crops' heatmaps are shifted right by the one column that they lie too far left.
    """
    straight, flipped = maps.chunk(2)
    flipped = flipped.flip(3)[:, torch.from_numpy(config.skeleton.flip_keypoints).to(maps.device)]
    return (straight + torch.cat([flipped[..., :1], flipped[..., :-1]], 3)) / 2


@torch.inference_mode()
def decode(heatmaps: Tensor | np.ndarray, centers: np.ndarray, sizes: np.ndarray, subpixel: Subpixel = "quarter") -> np.ndarray:
    """Return keypoints (P, K, 3) x, y in image pixels and heatmap value (maybe 0 or less), float32, at each heatmap's maximum.

    heatmaps (P, K, h, w); centers x, y and sizes width, height (P, 2) of the crops in image pixels. subpixel: "quarter" moves a quarter
    of a pixel towards the higher neighbor, as published; "parabola" fits the logarithms of the maximum and its neighbors, which is
    exact for a Gaussian.
    """
    heatmaps = torch.as_tensor(heatmaps).float()
    height, width = heatmaps.shape[2:]
    pixels = math.gcd(height, ROWS) * width
    blocks = heatmaps.flatten(2).unflatten(2, (-1, pixels))  # two steps: argmax over all pixels takes several times as long
    values, block = blocks.amax(3).max(2)
    within = blocks.gather(2, block[..., None, None].expand(-1, -1, 1, pixels)).argmax(3)[..., 0]
    index = block * pixels + within
    x, y = index % width, index // width
    shifts = _shifts(heatmaps.flatten(2), x, y, (height, width), subpixel) * (values > 0)
    keypoints = torch.stack([x + shifts[0], y + shifts[1], values], 2).cpu().numpy()
    scale = np.asarray(sizes)[:, None, :1] / width  # as published, the width sets the scale of both axes
    keypoints[..., :2] = (keypoints[..., :2] - (width / 2, height / 2)) * scale + np.asarray(centers)[:, None]
    return keypoints


def _shifts(flat: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], subpixel: Subpixel) -> Tensor:
    """Return the subpixel shifts (2, P, K) x, y from the maximum pixels x, y (P, K) of the heatmaps `flat` (P, K, h w)."""
    height, width = size

    def value_at(x: Tensor, y: Tensor) -> Tensor:
        return flat.gather(2, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1))[..., None])[..., 0]

    left, right, above, below = value_at(x - 1, y), value_at(x + 1, y), value_at(x, y - 1), value_at(x, y + 1)
    if subpixel == "quarter":
        inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        return torch.stack([right - left, below - above]).sign() * 0.25 * inside
    top, left, right, above, below = (t.clamp(min=MIN_HEATMAP_VALUE).log() for t in (value_at(x, y), left, right, above, below))
    shifts = []
    for before, after, position, side in ((left, right, x, width), (above, below, y, height)):
        curvature = 2 * top - before - after
        shift = torch.where(curvature > 0, (after - before) / (2 * curvature), 0).clamp(-0.5, 0.5)
        shifts.append(shift * ((position > 0) & (position < side - 1)))
    return torch.stack(shifts)
